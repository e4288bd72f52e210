package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
)

func TestCandidates(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []Mount
	}{
		"none":   {"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n", nil},
		"pure":   {"31 23 0:28 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n", []Mount{{"/sys/fs/cgroup", "/"}}},
		"hybrid": {"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", []Mount{{"/sys/fs/cgroup/unified", "/"}}},
		"a part is mounted first": {
			"1 2 0:38 /a.slice/b /mnt/b rw - cgroup2 none rw\n1 2 0:38 / /mnt/with\\040blank rw - cgroup2 none rw\n1 2 0:38 /c /mnt/c rw - cgroup2 none rw\n",
			[]Mount{{"/mnt/with blank", "/"}, {"/mnt/c", "/c"}, {"/mnt/b", "/a.slice/b"}},
		},
		"covered by another":       {"1 2 0:38 / /mnt rw - cgroup2 none rw\n1 2 0:38 /a /mnt rw - cgroup2 none rw\n", []Mount{{"/mnt", "/a"}}},
		"from outside a namespace": {"1 2 0:38 /.. /mnt rw - cgroup2 none rw\n1 2 0:38 /../../a /mnt/a rw - cgroup2 none rw\n1 2 0:38 /..a /mnt/b rw - cgroup2 none rw\n", []Mount{{"/mnt/b", "/..a"}}},
	} {
		infos, err := mountinfo.GetMountsFromReader(strings.NewReader(c.text), mountinfo.FSTypeFilter("cgroup2"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, candidates(infos)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// testbed returns the machine's mount, and the path of a cgroup of the test's
// own, which is there and empty.
func testbed(t *testing.T) (Mount, string) {
	t.Helper()
	m, err := Find()
	must(t, err)
	dir, err := os.MkdirTemp(m.Point, "wg-multihome-test-")
	if err != nil {
		t.Fatalf("make a cgroup (as root): %v", err)
	}
	path := filepath.Base(dir)
	t.Cleanup(func() {
		if left, err := m.Remove(path); left || err != nil {
			t.Errorf("cgroup %s is left: %v, %v", path, left, err)
		}
	})
	return m, path
}

func inode(t *testing.T, m Mount, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(m.Point, path), &st))
	return st.Ino
}

func TestResolve(t *testing.T) {
	m, path := testbed(t)
	deep := path + "/a.slice/b c"
	must(t, m.Make(deep))
	for level, p := range []string{path, path + "/a.slice", deep} {
		node, ok, err := m.Resolve(p)
		if want := (Node{p, level + 1, inode(t, m, p)}); !ok || err != nil || node != want {
			t.Errorf("%s is %v, %v, %v; want %v", p, node, ok, err, want)
		}
	}
	part := Mount{Point: filepath.Join(m.Point, path), Root: "/" + path}
	if node, ok, err := part.Resolve("a.slice"); !ok || err != nil || node.Level != 2 {
		t.Errorf("below a mount of a part: %v, %v, %v", node, ok, err)
	}
	before, _, _ := m.Resolve(deep)
	_, err := m.Remove(deep)
	must(t, err)
	for _, absent := range []string{deep, deep + "/x", path + "/cgroup.procs", path + "/cgroup.procs/x"} {
		if node, ok, err := m.Resolve(absent); ok || err != nil {
			t.Errorf("%s is %v, %v, %v", absent, node, ok, err)
		}
	}
	must(t, m.Make(deep))
	if after, _, _ := m.Resolve(deep); after.ID == before.ID || after.ID == 0 {
		t.Errorf("made anew, %s has id %d after %d", deep, after.ID, before.ID)
	}
	for _, bad := range []string{"", "/", "/a", "a/", "a//b", "..", path + "/..", path + "/../x", ".", "a\x00"} {
		if _, ok, err := m.Resolve(bad); ok || !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v, %v", bad, ok, err)
		}
		if err := m.Make(bad); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("make %q: %v", bad, err)
		}
	}
}

// TestGoneMount: where the mount is gone nothing is known of its cgroups, and
// that is not "they are gone".
// TestTree has a cgroup with others below it.
func TestTree(t *testing.T) {
	m, path := testbed(t)
	var want []uint64
	for _, below := range []string{"", "/a", "/a/b", "/c"} {
		must(t, m.Make(path+below))
		node, _, err := m.Resolve(path + below)
		must(t, err)
		want = append(want, node.ID)
	}
	got, err := m.Tree(path)
	must(t, err)
	if !slices.Equal(got, want) {
		t.Errorf("ids %v, want %v", got, want)
	}
	_, err = m.Remove(path + "/a")
	must(t, err)
	if got, err := m.Tree(path + "/a"); len(got) > 0 || err != nil {
		t.Errorf("of one that is gone: %v, %v", got, err)
	}
}

func TestGoneMount(t *testing.T) {
	dir := t.TempDir()
	for _, m := range []Mount{{Point: dir, Root: "/"}, {Point: dir + "/gone", Root: "/"}} {
		if _, ok, err := m.Resolve("a"); ok || err == nil {
			t.Errorf("%s: %v, %v", m.Point, ok, err)
		}
		if _, err := m.Populated("a"); err == nil {
			t.Errorf("%s: no error", m.Point)
		}
		if left, err := m.Remove("a"); !left || err == nil {
			t.Errorf("%s: %v, %v", m.Point, left, err)
		}
	}
}

func TestWalkFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(dir+"/in/below", 0o755))
	must(t, os.MkdirAll(dir+"/out/below", 0o755))
	must(t, os.Symlink("../out", dir+"/in/link"))
	must(t, os.Symlink("below", dir+"/in/near"))
	for path, want := range map[string]error{"below": nil, "link": unix.ENOENT, "link/below": unix.ENOENT, "near": unix.ENOENT} {
		fd, err := unix.Open(dir+"/in", unix.O_PATH|unix.O_DIRECTORY, 0)
		must(t, err)
		fd, err = walk(fd, strings.Split(path, "/"))
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
		if err == nil {
			_ = unix.Close(fd)
		}
	}
}

// TestProcesses moves a process, and lets it keep what it is in.
func TestProcesses(t *testing.T) {
	m, path := testbed(t)
	must(t, m.Make(path+"/full"))
	must(t, m.Make(path+"/empty/below"))
	cat := exec.Command("cat")
	stdin, err := cat.StdinPipe()
	must(t, err)
	must(t, cat.Start())
	end := func() { _ = stdin.Close(); _ = cat.Wait() }
	defer end()
	populated := func(want bool) {
		t.Helper()
		for _, p := range []string{path, path + "/full"} {
			if got, err := m.Populated(p); got != want || err != nil {
				t.Errorf("%s: populated %v, %v", p, got, err)
			}
		}
	}
	populated(false)
	must(t, m.Enter(path+"/full", cat.Process.Pid))
	populated(true)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", cat.Process.Pid))
	must(t, err)
	if want := "0::" + m.Name(path+"/full") + "\n"; !strings.Contains(string(text), want) {
		t.Errorf("process is in\n%swant %s", text, want)
	}
	if left, err := m.Remove(path); !left || err != nil {
		t.Errorf("remove what has a process: left %v, %v", left, err)
	}
	if _, ok, _ := m.Resolve(path + "/empty"); ok {
		t.Error("an empty cgroup beside one with a process was not removed")
	}
	end()
	populated(false)
	if left, err := m.Remove(path); left || err != nil {
		t.Errorf("remove what is empty: left %v, %v", left, err)
	}
	populated(false)
	if left, err := m.Remove(path); left || err != nil {
		t.Errorf("remove what is not there: left %v, %v", left, err)
	}
	if err := m.Enter(path, os.Getpid()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("enter what is not there: %v", err)
	}
}

func TestRunSlices(t *testing.T) {
	mark := fwmark.Mark{Value: 0x2000, Mask: 0xff00}
	if got, want := RunSlice(mark, "enp2s0-5@x"), `wgmultihome.slice/wgmultihome-0x2000_enp2s0\x2d5\x40x.slice`; got != want {
		t.Errorf("slice of %s: %s, want %s", mark, got, want)
	}
	for unit, want := range map[string]Run{
		RunUnit(mark, "enp2s0.5"):          {Uplink: "enp2s0.5", Value: 0x2000},
		RunUnit(mark, `a-b_c\x41 /\xff`):   {Uplink: `a-b_c\x41 /\xff`, Value: 0x2000},
		"wgmultihome-0xffffffff_up2.slice": {Uplink: "up2", Value: 0xffffffff},
		"wgmultihome-0x2005.slice":         {Value: 0x2005}, // of earlier versions
		"wgmultihome-0x2005_0x2006.slice":  {Uplink: "0x2006", Value: 0x2005},
	} {
		if got, ok := parseRun(unit); got != want || !ok {
			t.Errorf("%s: %+v, %v", unit, got, ok)
		}
	}
	for _, unit := range []string{
		"", "x.slice", "wgmultihome-0x.slice", "wgmultihome-0x02.slice", "wgmultihome-0xFF.slice", "wgmultihome-0x100000000.slice",
		"wgmultihome-0x1", "wgmultihome-0x+1.slice", "wgmultihome-up2.slice", "wgmultihome-0x1_.slice", `wgmultihome-0x1_\x4.slice`,
		`wgmultihome-0x1_\x61.slice`, "wgmultihome-0x1_a-b.slice", "0x1_up2.slice",
	} {
		if got, ok := parseRun(unit); ok {
			t.Errorf("%s: %+v", unit, got)
		}
	}
}

// TestRuns has slices of `run` with and without a process, in a part of the
// mount, so that they are not the machine's.
func TestRuns(t *testing.T) {
	whole, path := testbed(t)
	m := Mount{Point: filepath.Join(whole.Point, path), Root: "/" + path}
	if runs, err := m.Runs(); len(runs) != 0 || err != nil {
		t.Errorf("before any: %v, %v", runs, err)
	}
	empty, full := fwmark.Mark{Value: 0x2005}, fwmark.Mark{Value: 0xffffffff}
	scope := RunSlice(full, "up2") + "/run-1.scope"
	for _, p := range []string{RunSlice(empty, "up2"), RunSlice(full, "up2") + "/run-2.scope/below", scope + "/its own"} {
		must(t, m.Make(p))
	}
	cat := exec.Command("cat")
	stdin, err := cat.StdinPipe()
	must(t, err)
	must(t, cat.Start())
	t.Cleanup(func() { _ = stdin.Close(); _ = cat.Wait() })
	must(t, m.Enter(scope, cat.Process.Pid))
	got := map[uint32]bool{}
	must(t, m.Make(RunsSlice+"/other.slice"))
	runs, err := m.Runs()
	must(t, err)
	for _, r := range runs {
		got[r.Value] = r.Populated
		if r.Slice.ID != inode(t, m, r.Slice.Path) || r.Slice.Level != 3 {
			t.Errorf("%v", r)
		}
	}
	if diff := cmp.Diff(map[uint32]bool{empty.Value: false, full.Value: true}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if left, err := m.RemoveIdle(RunSlice(full, "up2")); !left || err != nil {
		t.Errorf("removed with a process: left %v, %v", left, err)
	}
	if names, err := m.children(RunSlice(full, "up2")); !slices.Equal(names, []string{"run-1.scope"}) || err != nil {
		t.Errorf("in the slice are %v, %v", names, err)
	}
	if _, ok, err := m.Resolve(scope + "/its own"); !ok || err != nil {
		t.Errorf("an empty cgroup of a living one: %v, %v", ok, err)
	}
	_ = stdin.Close()
	_ = cat.Wait()
	if left, err := m.RemoveIdle(RunSlice(full, "up2")); left || err != nil {
		t.Errorf("in the end: left %v, %v", left, err)
	}
	if names, err := m.children(RunSlice(full, "up2")); len(names) != 0 || err != nil {
		t.Errorf("in the end %v are in the slice, %v", names, err)
	}
}
