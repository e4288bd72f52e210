package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/socket"
)

// older are sockets as a service has them that runs already.
var older = []struct {
	name, kind string
	words      []string // that are done with it, by name and with an address
	connected  bool     // it keeps what it has
	listens    bool     // it gets none
}{
	{"tcp4", "tcp4", nil, false, false},
	{"tcp6-bound", "tcp6", []string{"bind [::]:8081"}, false, false},
	{"tcp4-connected", "tcp4", []string{"connect " + far4 + ":7"}, true, false},
	{"tcp6-connected", "tcp6", []string{"connect [" + far6 + "]:7"}, true, false},
	{"tcp4-connecting", "tcp4", []string{"nonblock", "connect 192.0.2.99:7"}, true, false},
	{"tcp4-server", "tcp4", []string{"bind 0.0.0.0:8082", "listen"}, false, true},
	{"tcp6-server", "tcp6", []string{"bind [::]:8083", "listen"}, false, true},
	{"mptcp4", "mptcp4", nil, false, false},
	{"mptcp4-connected", "mptcp4", []string{"connect " + far4 + ":8"}, true, false},
	{"mptcp4-server", "mptcp4", []string{"bind 0.0.0.0:8084", "listen"}, false, true},
	{"udp4", "udp4", nil, false, false},
	{"udp6-server", "udp6", []string{"bind [::]:8085"}, false, false},
	{"udp4-connected", "udp4", []string{"connect " + far4 + ":7"}, true, false},
	{"udp6-connected", "udp6", []string{"connect [" + mapped + "]:7"}, true, false},
	{"raw4", "raw4", nil, false, false},
	{"ping6", "ping6", nil, false, false},
}

// openOlder has a process make them.
func openOlder(t *testing.T, p *process) {
	t.Helper()
	for _, o := range older {
		p.do("socket", o.name, o.kind)
		for _, words := range o.words {
			word, arg, _ := strings.Cut(words, " ")
			if _, err := p.try(word, o.name, arg); err != nil && !strings.Contains(err.Error(), unix.EINPROGRESS.Error()) {
				t.Fatal(err)
			}
		}
	}
}

// checkOlder compares their marks: of what is connected, of what listens, and of the
// rest.
func checkOlder(t *testing.T, what string, p *process, connected, listens, rest uint32) {
	t.Helper()
	for _, o := range older {
		want := rest
		switch {
		case o.connected:
			want = connected
		case o.listens:
			want = listens
		}
		if got := p.mark(o.name); got != want {
			t.Errorf("%s: %s has mark %#x, want %#x", what, o.name, got, want)
		}
	}
}

// TestSocketOlder: sockets that are older than the pin get the mark where they are
// not connected, and lose it when the service is pinned no longer.
func TestSocketOlder(t *testing.T) {
	h := newHost(t)
	h.listenFar()
	p := h.start("a")
	openOlder(t, p)
	cgroup := h.path("a")
	_, r := h.pin(pins{cgroup: one})
	checkOlder(t, "pinned", p, 0, 0, one.Value)
	if r.Seen != len(older) || len(r.Refused) > 0 {
		t.Errorf("%+v, want %d sockets", r, len(older))
	}
	p.do("connect", "udp4", at(far4, farPort))
	if got := p.local("udp4").Addr().String(); got != other4 {
		t.Errorf("an older socket connects from %s", got)
	}
	p.do("socket", "new", "udp4")
	p.do("connect", "new", at(far4, farPort))
	h.pin(pins{})
	if now, new := p.mark("udp4"), p.mark("new"); now != one.Value || new != one.Value {
		t.Errorf("unpinned: connected ones have %#x, %#x", now, new)
	}
	p.do("close", "udp4")
	p.do("socket", "udp4", "udp4")
	checkOlder(t, "unpinned", p, 0, 0, 0)
}

// TestSocketMoved: when the mark of an uplink has another number, what is connected
// goes along.
func TestSocketMoved(t *testing.T) {
	h := newHost(t)
	h.listenFar()
	cgroup := h.make("a")
	h.pin(pins{cgroup: one})
	p := h.start("a")
	openOlder(t, p)
	for _, o := range older {
		if o.kind == "mptcp4" && o.listens {
			p.do("set", o.name, 0) // it keeps its number, as TestSocketServers has it
		}
	}
	checkOlder(t, "pinned", p, one.Value, 0, one.Value)
	h.pin(pins{cgroup: two})
	checkOlder(t, "moved", p, two.Value, 0, two.Value)
	h.pin(pins{cgroup: masked})
	checkOlder(t, "moved under a mask", p, masked.Value, 0, masked.Value)
}

// TestSocketMoveOfAll: so does what is in no cgroup of ours.
func TestSocketMoveOfAll(t *testing.T) {
	h := newHost(t)
	p := h.start("elsewhere")
	p.do("socket", "s", "udp4")
	p.do("set", "s", 0x77345678)
	move := socket.Move{From: fwmark.Mark{Value: 0x77345678, Mask: fwmark.FullMask}, To: two}
	var r Report
	if err := h.client.Give(context.Background(), move.Remark(), &r); err != nil || r.Changed != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if got := p.mark("s"); got != two.Value {
		t.Errorf("mark %#x", got)
	}
}

// TestSocketOlderNested: sockets of a cgroup below get that one's mark, and that of
// the one above when it is pinned no longer.
func TestSocketOlderNested(t *testing.T) {
	h := newHost(t)
	above, below := h.make("a"), h.make("a/b")
	outer, inner := h.start("a"), h.start("a/b")
	for _, p := range []*process{outer, inner} {
		p.do("socket", "s", "udp4")
	}
	for _, c := range []struct {
		want         pins
		outer, inner uint32
	}{
		{pins{above: one}, one.Value, one.Value},
		{pins{above: one, below: two}, one.Value, two.Value},
		{pins{above: two, below: one}, two.Value, one.Value},
		{pins{above: two}, two.Value, two.Value},
		{pins{below: one}, 0, one.Value},
		{pins{}, 0, 0},
		{pins{above: one, below: two}, one.Value, two.Value},
	} {
		h.pin(c.want)
		if a, b := outer.mark("s"), inner.mark("s"); a != c.outer || b != c.inner {
			t.Errorf("%v: marks %#x and %#x, want %#x and %#x", c.want, a, b, c.outer, c.inner)
		}
	}
}

// TestSocketNamespaces: processes in user and pid namespaces of their own, and those
// of another user, are reached.
func TestSocketNamespaces(t *testing.T) {
	h := newHost(t)
	all := map[string]*process{
		"user":  h.startAs("a", inUserNamespace()),
		"other": h.startAs("a", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}),
		"plain": h.start("a"),
	}
	for _, p := range all {
		p.do("socket", "s", "udp4")
	}
	_, r := h.pin(pins{h.path("a"): one})
	for name, p := range all {
		if got := p.mark("s"); got != one.Value {
			t.Errorf("%s: mark %#x", name, got)
		}
	}
	if r.Changed != len(all) || len(r.Refused) > 0 {
		t.Errorf("%+v", r)
	}
}

func inUserNamespace() *syscall.SysProcAttr {
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 1000}}
	return &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWPID, UidMappings: ids, GidMappings: ids}
}

// TestSocketShared: a socket that several processes have is seen to once.
func TestSocketShared(t *testing.T) {
	h := withCgroup(t)
	p := h.start("a")
	for i := range 20 {
		p.do("socket", fmt.Sprint("s", i), "udp4")
	}
	_, r := h.pin(pins{h.path("a"): one})
	if r.Seen != 20 || r.Changed != 20 {
		t.Errorf("%+v", r)
	}
}

// TestSocketReusedNumber: between the listing of a process's files and the look at one
// of them, its number may have become another socket's. Both are seen to.
func TestSocketReusedNumber(t *testing.T) {
	p := withCgroup(t).start("")
	p.do("socket", "old", "udp4")
	p.do("socket", "new", "udp4")
	pidfd, err := unix.PidfdOpen(p.pid, 0)
	must(t, err)
	defer unix.Close(pidfd)
	old, new := p.do("number", "old"), p.do("number", "new")
	is, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", p.pid, old))
	must(t, err)
	listed := t.TempDir() // as it was when the first socket had the second one's number, too
	for _, number := range []string{new, old} {
		must(t, os.Symlink(is, filepath.Join(listed, number)))
	}
	dir, err := os.Open(listed)
	must(t, err)
	defer dir.Close()
	g := giver{remark: socket.Remark{To: one}, report: &Report{}, seen: map[uint64]bool{}, done: map[int]bool{}}
	for _, number := range []string{new, old} {
		must(t, g.file(pidfd, dir, number))
	}
	if a, b := p.mark("old"), p.mark("new"); a != one.Value || b != one.Value || g.report.Changed != 2 {
		t.Errorf("marks %#x and %#x, %+v", a, b, g.report)
	}
}

// TestSocketThreads: which processes have threads in a cgroup of threads is known
// further up only.
func TestSocketThreads(t *testing.T) {
	h := newHost(t)
	threads, p := h.make("a/threads"), h.start("a")
	must(t, os.WriteFile(filepath.Join(h.point, threads, "cgroup.type"), []byte("threaded"), 0))
	p.do("socket", "s", "udp4")
	if _, r := h.pin(pins{threads: one}); len(r.Refused) != 1 || r.Seen != 0 {
		t.Errorf("%+v", r)
	}
	if _, r := h.pin(pins{h.path("a"): one}); len(r.Refused) != 1 || r.Changed != 1 { // of the one that has it no more
		t.Errorf("%+v", r)
	}
}

// TestSocketGiveRefused: without the right to reach into a process its sockets are
// left, and it is said.
func TestSocketGiveRefused(t *testing.T) {
	h := withCgroup(t)
	p := h.start("a")
	p.do("socket", "s", "udp4")
	nobody := start(t, "", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
	said := nobody.do("give", h.point, h.path("a"))
	if !strings.Contains(said, fmt.Sprintf("process %d", p.pid)) || !strings.Contains(said, "ermi") {
		t.Errorf("it says %q", said)
	}
	if got := p.mark("s"); got != 0 {
		t.Errorf("mark %#x", got)
	}
}

// TestSocketGiveEnds: what came to no end is an error, and is done by the next run.
func TestSocketGiveEnds(t *testing.T) {
	h := withCgroup(t)
	p := h.start("a")
	p.do("socket", "s", "udp4")
	want := pins{h.path("a"): one}
	ctx, cancel := context.WithDeadline(context.Background(), time.Unix(1, 0))
	defer cancel()
	for _, step := range h.steps(want) {
		if _, err := h.client.Apply(ctx, step); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	}
	if len(h.steps(want)) == 0 {
		t.Error("nothing is left to do")
	}
	h.pin(want)
	if got := p.mark("s"); got != one.Value {
		t.Errorf("mark %#x", got)
	}
}

// TestSocketKilled has a run end after each of its changes: the next one does the
// rest, and what older sockets are owed.
func TestSocketKilled(t *testing.T) {
	h := newHost(t)
	h.listenFar()
	cgroup := h.make("a")
	p := h.start("a")
	for _, c := range []struct {
		from, to              pins
		connected, rest, give uint32
	}{
		{pins{}, pins{cgroup: one}, 0, one.Value, 0},
		{pins{cgroup: one}, pins{cgroup: two}, two.Value, two.Value, one.Value},
		{pins{cgroup: one}, pins{}, one.Value, 0, one.Value},
	} {
		for changes := 0; ; changes++ {
			h.pin(c.from)
			for name, words := range map[string]string{"rest": "", "connected": "connect"} {
				p.do("socket", name, "udp4")
				if words != "" {
					p.do(words, name, at(far4, farPort))
				}
			}
			steps := h.steps(c.to)
			if len(steps) != 1 {
				t.Fatalf("%d steps", len(steps))
			}
			if changes == len(steps[0].Changes) {
				break
			}
			steps[0].Changes = steps[0].Changes[:changes]
			_, err := h.client.Apply(context.Background(), steps[0])
			must(t, err)
			h.pin(c.to)
			if a, b := p.mark("connected"), p.mark("rest"); a != c.connected || b != c.rest {
				t.Errorf("%v to %v, killed after %d: marks %#x and %#x, want %#x and %#x", c.from, c.to, changes, a, b, c.connected, c.rest)
			}
			p.do("close", "connected")
			p.do("close", "rest")
		}
	}
}

// TestSocketGone: of a cgroup that is gone nothing is left to do, and nothing can be
// attached to it.
func TestSocketGone(t *testing.T) {
	h := withCgroup(t)
	cgroup := h.make("a")
	add := h.steps(pins{cgroup: one})
	h.pin(pins{cgroup: one})
	drop := h.steps(pins{})
	must(t, os.Remove(filepath.Join(h.point, cgroup)))
	for _, step := range drop {
		if _, err := h.client.Apply(context.Background(), step); err != nil {
			t.Errorf("%v: %v", step.Lines(), err)
		}
	}
	for _, step := range add {
		if _, err := h.client.Apply(context.Background(), step); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v: %v", step.Lines(), err)
		}
	}
	if s := h.read(cgroup, cgroup+"/x", cgroup+"/cgroup.procs"); len(s.Cgroups) > 1 {
		t.Errorf("%v", s)
	}
	for _, bad := range []string{"..", "/", "a/../b", "a//b", "./a", "."} {
		if _, err := h.client.Read([]string{bad}, false); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("a directory is taken for a mount")
	}
	if slices.Contains(h.read().Carrying(one), cgroup) {
		t.Error("what is gone carries a mark")
	}
}
