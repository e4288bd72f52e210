package events

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/fwmark"
)

// patience bounds each wait.
const patience = 30 * time.Second

// namespace gives the test's thread, and the programs that it starts, a network
// namespace of their own. The thread ends with the test.
func namespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace (root, or unshare -Ur): %v", err)
	}
}

func open(t *testing.T, o Options) *Source {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func do(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// hear takes what is heard until it satisfies a condition.
func hear(t *testing.T, s *Source, what string, is func(Heard) bool) Heard {
	t.Helper()
	var all Heard
	end := time.After(patience)
	for !is(all) {
		select {
		case <-s.Ready():
			all.Add(s.Take())
			if err := s.Err(); err != nil {
				t.Fatal(err)
			}
		case <-end:
			t.Fatalf("%s is not heard of, but %+v", what, all)
		}
	}
	return all
}

// named is a condition: a cause of that text.
func named(k Kind, gone bool, text string) func(Heard) bool {
	return func(h Heard) bool {
		for _, c := range h.Causes {
			if c.Kind == k && c.Gone == gone && c.Text == text {
				return true
			}
		}
		return false
	}
}

// TestKernel has each kind of change made by the real programs.
func TestKernel(t *testing.T) {
	namespace(t)
	s := open(t, Options{})
	if s.Lacks != nil {
		t.Fatal(s.Lacks)
	}
	do(t, "ip", "link", "set", "lo", "up")
	for _, c := range []struct {
		args []string
		kind Kind
		gone bool
		text string
	}{
		{[]string{"ip", "link", "add", "dm0", "type", "veth", "peer", "name", "dm1"}, Link, false, "link dm0"},
		{[]string{"ip", "link", "set", "dm0", "up"}, Link, false, "link dm0"},
		{[]string{"ip", "addr", "add", "192.0.2.2/24", "dev", "dm0"}, Address, false, "address 192.0.2.2/24"},
		{[]string{"ip", "addr", "add", "2001:db8::2/64", "dev", "dm0", "nodad"}, Address, false, "address 2001:db8::2/64"},
		{[]string{"ip", "route", "add", "default", "via", "192.0.2.1"}, Route, false, "route 4 of table 254"},
		{[]string{"ip", "-6", "route", "add", "default", "via", "2001:db8::1"}, Route, false, "route 6 of table 254"},
		{[]string{"ip", "rule", "add", "priority", "100", "fwmark", "5", "unreachable", "proto", "77"}, Rule, false, "rule 4 100 fwmark 0x5 unreachable"},
		{[]string{"ip", "rule", "del", "priority", "100"}, Rule, true, "rule 4 100 fwmark 0x5 unreachable"},
		{[]string{"ip", "-6", "rule", "add", "priority", "100", "fwmark", "5", "unreachable", "proto", "77"}, Rule, false, "rule 6 100 fwmark 0x5 unreachable"},
		{[]string{"ip", "-6", "rule", "del", "priority", "100"}, Rule, true, "rule 6 100 fwmark 0x5 unreachable"},
		{[]string{"ip", "nexthop", "add", "id", "3", "blackhole"}, Nexthop, false, "nexthop object"},
		{[]string{"nft", "add", "table", "inet", "wg_multihome"}, Table, false, "table inet wg_multihome"},
		{[]string{"nft", "flush", "ruleset"}, Table, true, "table inet wg_multihome"},
		{[]string{"ip", "link", "del", "dm0"}, Link, true, "link dm0"},
	} {
		do(t, c.args...)
		h := hear(t, s, c.text, named(c.kind, c.gone, c.text))
		if h.Stale&stale[c.kind] != stale[c.kind] {
			t.Errorf("%v: %s is stale", c.args, h.Stale)
		}
	}
}

// TestWhoDeleted: a rule that others delete is heard of with the process that did.
func TestWhoDeleted(t *testing.T) {
	namespace(t)
	s := open(t, Options{})
	do(t, "ip", "rule", "add", "priority", "100", "fwmark", "5", "unreachable", "proto", "77")
	hear(t, s, "the rule", func(h Heard) bool { return h.Has(Rule) })
	cmd := exec.Command("ip", "-batch", "-") // it lives on until its input ends
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("rule del priority 100\n")); err != nil {
		t.Fatal(err)
	}
	h := hear(t, s, "the deletion", func(h Heard) bool { return h.Has(Rule) })
	_ = in.Close()
	_ = cmd.Wait()
	if c := h.Causes[0]; !c.Gone || c.Protocol != 77 || c.Process != "ip" || c.Port != uint32(cmd.Process.Pid) {
		t.Errorf("%+v, by process %d", c, cmd.Process.Pid)
	}
}

// TestDropped: tables of others, local, and tables of nft that are not ours make
// no look.
func TestDropped(t *testing.T) {
	namespace(t)
	s := open(t, Options{})
	do(t, "ip", "link", "set", "lo", "up")
	do(t, "ip", "addr", "add", "2001:db8::2/64", "dev", "lo", "valid_lft", "1000", "preferred_lft", "1000")
	hear(t, s, "the address, tentative first", func(h Heard) bool {
		told := 0
		for _, c := range h.Causes {
			if c.Text == "address 2001:db8::2/64" {
				told++
			}
		}
		return told == 2
	})
	settled(t, s)
	do(t, "ip", "route", "add", "blackhole", "192.0.2.0/24", "table", "100", "proto", "bird")
	do(t, "ip", "route", "add", "local", "192.0.2.9", "dev", "lo", "table", "local")
	do(t, "nft", "add table ip other; add chain ip other c")
	do(t, "ip", "addr", "change", "2001:db8::2/64", "dev", "lo", "valid_lft", "2000", "preferred_lft", "2000")
	for _, c := range settled(t, s).Causes {
		t.Errorf("%+v", c)
	}
}

// settled takes what is heard until a route of table 254 that it adds itself, and
// leaves that out.
func settled(t *testing.T, s *Source) Heard {
	t.Helper()
	const marker = "route 4 of table 254"
	do(t, "ip", "route", "add", "blackhole", "198.51.100.0/24")
	defer do(t, "ip", "route", "del", "blackhole", "198.51.100.0/24")
	h := hear(t, s, marker, named(Route, false, marker))
	var before Heard
	for _, c := range h.Causes {
		if c.Text != marker {
			before.Causes = append(before.Causes, c)
		}
	}
	return before
}

// TestOverrun: where the kernel drops messages everything is stale, and what comes
// afterwards is heard.
func TestOverrun(t *testing.T) {
	namespace(t)
	s := open(t, Options{Buffer: 1})
	s.mu.Lock() // the reader is kept
	var lines []byte
	for range 500 {
		lines = append(lines, "rule add priority 100 fwmark 5 unreachable\nrule del priority 100\n"...)
	}
	path := filepath.Join(t.TempDir(), "batch")
	if err := os.WriteFile(path, lines, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ip", "-batch", path).CombinedOutput()
	s.mu.Unlock()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	h := hear(t, s, "the overrun", func(h Heard) bool { return h.Overruns > 0 })
	if h.Stale != decide.Everything {
		t.Errorf("%s is stale", h.Stale)
	}
	do(t, "ip", "link", "add", "dm0", "type", "veth", "peer", "name", "dm1")
	one, other := named(Link, false, "link dm0"), named(Link, false, "link dm1")
	hear(t, s, "a link", func(h Heard) bool { return one(h) || other(h) }) // the buffer holds one of them, where nobody reads at once
}

// TestFollowMissed: a table that becomes of interest makes a look of what was
// dropped.
func TestFollowMissed(t *testing.T) {
	namespace(t)
	s := open(t, Options{})
	settled(t, s)
	s.Take()
	do(t, "ip", "route", "add", "blackhole", "192.0.2.0/24", "table", "100")
	settled(t, s)
	do(t, "ip", "route", "add", "blackhole", "203.0.113.0/24", "table", "101")
	last := time.Now().Add(patience)
	for dropped := false; !dropped; {
		s.mu.Lock()
		dropped = s.filter.dropped[decide.RouteTable{Family: fwmark.IPv4, Number: 101}]
		s.mu.Unlock()
		if time.Now().After(last) {
			t.Fatal("the route is not read")
		}
		time.Sleep(time.Millisecond)
	}
	if err := s.Follow(Interest{Tables: map[decide.RouteTable]bool{{Family: fwmark.IPv4, Number: 101}: true}}); err != nil {
		t.Fatal(err)
	}
	hear(t, s, "what was missed", func(h Heard) bool { return h.Stale.Has(decide.Routes) })
}

// TestPlaces: files and directories that come, go, are written and replaced,
// through what is above them too.
func TestPlaces(t *testing.T) {
	namespace(t)
	s := open(t, Options{})
	dir := t.TempDir()
	file, folder, group := filepath.Join(dir, "etc/a/file"), filepath.Join(dir, "folder"), filepath.Join(dir, "tree/system.slice/a.service")
	places := []Place{{Path: file}, {Path: folder, Entries: true}, {Path: group, Cgroup: true}}
	follow := func() {
		t.Helper()
		if err := s.Follow(Interest{Places: places}); err != nil {
			t.Fatal(err)
		}
	}
	write := func(path string) func() error {
		return func() error { return os.WriteFile(path, []byte("x"), 0o600) }
	}
	mkdir := func(path string) func() error { return func() error { return os.MkdirAll(path, 0o700) } }
	follow()
	s.Take()
	for _, c := range []struct {
		name string
		act  func() error
		kind Kind
	}{
		{"a directory above the file", mkdir(filepath.Dir(filepath.Dir(file))), File},
		{"the file's directory", mkdir(filepath.Dir(file)), File},
		{"the file comes", write(file), File},
		{"the file is written", write(file), File},
		{"the file is replaced", func() error {
			if err := write(file + ".new")(); err != nil {
				return err
			}
			return os.Rename(file+".new", file)
		}, File},
		{"the file goes", func() error { return os.Remove(file) }, File},
		{"its directory goes", func() error { return os.Remove(filepath.Dir(file)) }, File},
		{"its directory is back", mkdir(filepath.Dir(file)), File},
		{"the file is back", write(file), File},
		{"the folder comes", mkdir(folder), File},
		{"something in it", write(filepath.Join(folder, "x")), File},
		{"cgroups above the service's", mkdir(filepath.Dir(group)), Cgroup},
		{"the service's", mkdir(group), Cgroup},
		{"it is gone", func() error { return os.Remove(group) }, Cgroup},
		{"it is made anew", mkdir(group), Cgroup},
	} {
		if err := c.act(); err != nil {
			t.Fatal(err)
		}
		hear(t, s, c.name, func(h Heard) bool { return h.Stale.Has(stale[c.kind]) })
		follow()
		s.Take()
	}
	if err := write(filepath.Join(dir, "other"))(); err != nil {
		t.Fatal(err)
	}
	if err := write(file)(); err != nil {
		t.Fatal(err)
	}
	h := hear(t, s, "the file", func(h Heard) bool { return h.Has(File) })
	for _, c := range h.Causes {
		if c.Text != "file "+file {
			t.Errorf("%+v", c)
		}
	}
}

// TestFoldersOfTwoNames: /var/run is /run, and inotify knows a folder by one name.
func TestFoldersOfTwoNames(t *testing.T) {
	namespace(t)
	s := open(t, Options{})
	dir := t.TempDir()
	run, alias := filepath.Join(dir, "run"), filepath.Join(dir, "var-run")
	if err := errors.Join(os.Mkdir(run, 0o700), os.Symlink("run", alias)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(run, "file")
	if err := s.Follow(Interest{Places: []Place{{Path: file}, {Path: filepath.Join(alias, "wireguard"), Entries: true}}}); err != nil {
		t.Fatal(err)
	}
	s.Take()
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	hear(t, s, "the file", named(File, false, "file "+file))
	if err := os.Mkdir(filepath.Join(run, "wireguard"), 0o700); err != nil {
		t.Fatal(err)
	}
	hear(t, s, "what the other name has", named(File, false, "file "+filepath.Join(run, "wireguard")))
}

// TestLinksToFiles: the configuration may be a link to elsewhere.
func TestLinksToFiles(t *testing.T) {
	namespace(t)
	s := open(t, Options{})
	dir, other := t.TempDir(), t.TempDir()
	target, path := filepath.Join(other, "real"), filepath.Join(dir, "file")
	if err := os.WriteFile(target, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	if err := s.Follow(Interest{Places: []Place{{Path: path}}}); err != nil {
		t.Fatal(err)
	}
	s.Take()
	if err := os.WriteFile(target, []byte("y"), 0o600); err != nil {
		t.Fatal(err)
	}
	hear(t, s, "what the link leads to", func(h Heard) bool { return h.Has(File) })
}
