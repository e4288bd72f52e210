package install

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tree is a root beside a folder that nothing may be written to.
func tree(t *testing.T) (root, outside string, opened *Tree) {
	t.Helper()
	dir := t.TempDir()
	root, outside = filepath.Join(dir, "root"), filepath.Join(dir, "outside")
	for _, d := range []string{root, outside} {
		check(t, os.Mkdir(d, 0o755))
	}
	opened, err := OpenTree(root)
	check(t, err)
	t.Cleanup(opened.Close)
	return root, outside, opened
}

// put writes a file below a root, and the folders that lead there.
func put(t *testing.T, root, path, text string) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(root+path), 0o755))
	check(t, os.WriteFile(root+path, []byte(text), 0o755))
}

func everything(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	check(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if !e.IsDir() {
			all = append(all, strings.TrimPrefix(p, dir))
		}
		return err
	}))
	return all
}

func do(t *testing.T, tr *Tree, o Options) []Line {
	t.Helper()
	f, err := tr.Look()
	check(t, err)
	lines, err := PlanInstall(f, o)
	check(t, err)
	for _, l := range lines {
		check(t, tr.Do(l))
	}
	return lines
}

// TestTreeFinds: each client by each of its probes, through the links of a merged
// /usr, and nothing else.
func TestTreeFinds(t *testing.T) {
	for _, p := range probes {
		root, _, tr := tree(t)
		check(t, os.MkdirAll(root+"/usr/sbin", 0o755))
		check(t, os.Symlink("usr/sbin", root+"/sbin"))
		put(t, root, "/etc/systemd/network/readme", "")
		put(t, root, strings.Replace(p.path, "*", "10-wan", 1), "")
		f, err := tr.Look()
		check(t, err)
		found := slices.Collect(maps.Keys(f.Found))
		if !slices.Equal(found, []Client{p.client}) {
			t.Errorf("%s: %v", p.path, f.Found)
		}
	}
}

// TestTreeWritesOnce: a second time there is nothing to be done, and what is removed
// leaves nothing, but for what others have put beside it.
func TestTreeWritesOnce(t *testing.T) {
	root, _, tr := tree(t)
	o := Options{Caller: caller, Package: true}
	const other = "/usr/lib/systemd/networkd.conf.d/10-other.conf"
	put(t, root, other, "")
	for i, l := range do(t, tr, o) {
		info, err := os.Lstat(root + l.Path)
		check(t, err)
		if l.Act != Write || l.Entry.Target == "" && info.Mode() != l.Entry.Mode {
			t.Errorf("line %d: %s: %s", i, l, info.Mode())
		}
	}
	written := everything(t, root)
	for _, l := range do(t, tr, o) {
		if l.Act != Stands {
			t.Errorf("%s", l)
		}
	}
	if now := everything(t, root); !slices.Equal(now, written) || len(now) != len(Table())+1 {
		t.Errorf("%q", now)
	}
	f, err := tr.Look()
	check(t, err)
	for _, l := range PlanUninstall(f, false) {
		check(t, tr.Do(l))
		check(t, tr.Do(l)) // once more, as after a kill
	}
	if left := everything(t, root); !slices.Equal(left, []string{other}) {
		t.Errorf("left: %q", left)
	}
	if _, err := os.Stat(root + "/usr/lib/systemd/system/wg-quick@.service.d"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder of ours: %v", err)
	}
}

// TestTreeStaysBelowItsRoot: links that lead out of the root lead to what lies below
// it, and a file's own place is never followed.
func TestTreeStaysBelowItsRoot(t *testing.T) {
	for name, link := range map[string]func(root, outside string) (string, string){
		"an absolute link": func(root, outside string) (string, string) { return outside, root + "/etc" },
		"one that climbs":  func(root, _ string) (string, string) { return "../../../../outside", root + "/etc" },
		"a hooks' folder":  func(root, outside string) (string, string) { return outside, root + "/etc/dhcp/dhclient-exit-hooks.d" },
		"the file itself":  func(root, outside string) (string, string) { return outside + "/victim", root + dhclientPath },
		"the file's scratch": func(root, outside string) (string, string) {
			return outside + "/victim", root + filepath.Dir(dhclientPath) + "/" + scratch("zz-wg-multihome")
		},
		"a file in two places": func(root, outside string) (string, string) {
			return outside + "/victim", root + "/etc/ppp/ip-up.d/zz-wg-multihome"
		},
	} {
		t.Run(name, func(t *testing.T) {
			root, outside, tr := tree(t)
			put(t, outside, "/victim", "untouched")
			target, at := link(root, outside)
			check(t, os.MkdirAll(filepath.Dir(at), 0o755))
			check(t, os.Symlink(target, at))
			// Where a link leads to nothing below the root, that is an error, and no more.
			f, err := tr.Look()
			check(t, err)
			lines, err := PlanInstall(f, Options{Caller: caller, Package: true, Force: true})
			check(t, err)
			for _, l := range lines {
				_ = tr.Do(l)
			}
			if got := everything(t, outside); !slices.Equal(got, []string{"/victim"}) {
				t.Errorf("outside is %q", got)
			}
			text, err := os.ReadFile(outside + "/victim")
			check(t, err)
			if string(text) != "untouched" {
				t.Errorf("%q", text)
			}
		})
	}
}

// TestTreeFollowsLinksBelowItsRoot: an /etc that is elsewhere in the root is where
// files are written.
func TestTreeFollowsLinksBelowItsRoot(t *testing.T) {
	root, _, tr := tree(t)
	check(t, os.MkdirAll(root+"/private/etc", 0o755))
	check(t, os.Symlink("/private/etc", root+"/etc"))
	do(t, tr, Options{Caller: caller, Package: true})
	if _, err := os.Stat(root + "/private" + dhclientPath); err != nil {
		t.Error(err)
	}
}

// TestTreeMeetsWhatIsNoFile: a FIFO keeps nobody, and a folder in the place of a file
// is an error that names it; all else is written.
func TestTreeMeetsWhatIsNoFile(t *testing.T) {
	root, _, tr := tree(t)
	put(t, root, "/etc/ppp/ip-up.d/zz-wg-multihome/x", "")
	check(t, os.MkdirAll(filepath.Dir(root+dhclientPath), 0o755))
	check(t, unix.Mkfifo(root+dhclientPath, 0o644))
	put(t, root, "/etc/network", "a file")
	f, err := tr.Look()
	check(t, err)
	lines, err := PlanInstall(f, Options{Caller: caller, Package: true, Force: true})
	check(t, err)
	failed := map[string]bool{}
	for _, l := range lines {
		if err := tr.Do(l); err != nil {
			failed[l.Path] = strings.Contains(err.Error(), l.Path)
		}
	}
	if want := map[string]bool{"/etc/ppp/ip-up.d/zz-wg-multihome": true, "/etc/network/if-up.d/zz-wg-multihome": true, "/etc/network/if-post-down.d/zz-wg-multihome": true}; !maps.Equal(failed, want) {
		t.Errorf("failed: %v", failed)
	}
	if text, err := os.ReadFile(root + dhclientPath); err != nil || !sealed(string(text)) {
		t.Errorf("%v %q", err, text)
	}
}

// TestTreeReadsUnderAnyMask: networkd and others read our files under users of their
// own.
func TestTreeReadsUnderAnyMask(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	root, _, tr := tree(t)
	do(t, tr, Options{Caller: caller, Package: true})
	check(t, filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if info, _ := e.Info(); p != root && e.IsDir() && info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %s", p, info.Mode())
		}
		return err
	}))
}

func TestPurge(t *testing.T) {
	root, outside, tr := tree(t)
	names := []string{"leases", "lock"}
	put(t, root, "/run/wg/leases/wan.json", "")
	put(t, root, "/run/wg/lock", "")
	put(t, root, "/run/other/important", "")
	put(t, outside, "/leases/wan.json", "")
	check(t, os.Symlink(outside, root+"/run/link"))
	for _, c := range []struct {
		name         string
		there, fails bool
	}{{"/run/wg", true, false}, {"/run/wg", false, false}, {"/run/other", true, true}, {"/run/link", false, false}} {
		if there, err := tr.PurgeFolder(c.name, names, true); err != nil || there != c.there {
			t.Errorf("%s, dry: %t, %v", c.name, there, err)
		}
		if there, err := tr.PurgeFolder(c.name, names, false); there != c.there || (err != nil) != c.fails {
			t.Errorf("%s: %t, %v", c.name, there, err)
		}
	}
	if got := append(everything(t, root), everything(t, outside)...); !slices.Equal(got, []string{"/run/link", "/run/other/important", "/leases/wan.json"}) {
		t.Errorf("left: %q", got)
	}
	put(t, root, "/etc/wg.toml", "")
	for _, there := range []bool{true, false} {
		if got, err := tr.PurgeFile("/etc/wg.toml", false); err != nil || got != there {
			t.Errorf("%t, %v", got, err)
		}
	}
}
