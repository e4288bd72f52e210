package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/socket"
)

// tcpOf returns state and inode of the TCP connection from a port, as the kernel lists
// them in procfs; "" where there is none. TIME_WAIT is 06, FIN_WAIT1 04.
func tcpOf(t *testing.T, port uint16) string {
	t.Helper()
	for _, file := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile("/proc/thread-self/net/" + file)
		must(t, err)
		for _, line := range strings.Split(string(text), "\n") {
			f := strings.Fields(line)
			if len(f) > 9 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				return f[3] + " " + f[9]
			}
		}
	}
	return ""
}

// TestSocketClosed: TCP connections that their program has closed have something to
// send still, and no file leads to them. Those with the mark that moves are ended,
// and no others.
func TestSocketClosed(t *testing.T) {
	h := newHost(t)
	h.listenFar()
	p := h.start("a")
	const close, keep, wait = "close", "shutdown", "wait"
	all := []struct {
		name, kind, to string
		mark           uint32
		how            string
		ended          bool
		port           uint16
	}{
		{name: "waits", kind: "tcp4", to: far4 + ":7", mark: one.Value, how: wait, ended: true},
		{name: "four", kind: "tcp4", to: far4 + ":7", mark: one.Value, how: close, ended: true},
		{name: "six", kind: "tcp6", to: "[" + far6 + "]:7", mark: one.Value, how: close, ended: true},
		{name: "mapped", kind: "tcp6", to: "[" + mapped + "]:7", mark: one.Value, how: close, ended: true},
		{name: "other", kind: "tcp4", to: far4 + ":7", mark: two.Value, how: close},
		{name: "none", kind: "tcp6", to: "[" + far6 + "]:7", mark: 0, how: close},
		{name: "under a mask", kind: "tcp4", to: far4 + ":7", mark: 0x20aa, how: close},
		{name: "open", kind: "tcp4", to: far4 + ":7", mark: one.Value, how: keep},
	}
	for i := range all {
		c := &all[i]
		name := strings.ReplaceAll(c.name, " ", "-")
		p.do("socket", name, c.kind)
		p.do("set", name, c.mark)
		p.do("connect", name, c.to)
		c.port = p.local(name).Port()
		if c.how == wait {
			h.far.do("accept", "tcp4", "accepted")
			p.do("close", name)
			h.far.do("close", "accepted")
			until(t, name+" is in TIME_WAIT", func() bool { return tcpOf(t, c.port) == "06 0" })
			continue
		}
		p.do("fill", name)
		p.do(c.how, name)
		if is := tcpOf(t, c.port); !strings.HasPrefix(is, "04 ") || (is == "04 0") != (c.how == close) {
			t.Fatalf("%s: state and inode %q", c.name, is)
		}
	}

	var r Report
	move := socket.Move{From: one, To: masked}
	remark := socket.Remark{Cgroup: h.path("a"), Moves: []socket.Move{move}}
	must(t, h.client.Give(context.Background(), remark, &r))
	what, err := EndClosed(context.Background(), one)
	if err != nil || what != (Closed{Ended: 4}) {
		t.Errorf("%+v, %v", what, err)
	}
	for _, c := range all {
		if is := tcpOf(t, c.port); (is == "") != c.ended {
			t.Errorf("%s: state and inode %q", c.name, is)
		}
	}
	if got := p.mark("open"); got != masked.Value {
		t.Errorf("what is open has mark %#x", got)
	}
	if what, err := EndClosed(context.Background(), masked); err != nil || what != (Closed{Ended: 2}) { // that of two, too
		t.Errorf("under a mask: %+v, %v", what, err)
	}
	if what, err := EndClosed(context.Background(), one); err != nil || what != (Closed{}) {
		t.Errorf("again: %+v, %v", what, err)
	}
}

// TestSocketClosedDenied: without the right to it, it is an error: who has the right
// may do it still.
func TestSocketClosedDenied(t *testing.T) {
	h := newHost(t)
	p := h.startAs("a", inUserNamespace())
	if said, err := p.try("end"); err == nil || !strings.Contains(err.Error(), unix.EPERM.Error()) {
		t.Errorf("%q, %v", said, err)
	}
}

// TestSocketClosedOlder: kernels that end none leave them, and it is said. Those that
// do so badly are asked to do it with one alone.
func TestSocketClosedOlder(t *testing.T) {
	connections := []closed{{waits: true, id: [48]byte{40: 1}}, {id: [48]byte{40: 2}}, {id: [48]byte{40: 3}}}
	for name, k := range map[string]struct {
		destroy func(c closed) (ends bool, err error)
		tried   int
		want    Closed
	}{
		"without INET_DIAG_DESTROY": {func(closed) (bool, error) { return false, unix.EOPNOTSUPP }, 1, Closed{Left: 3, Why: unix.EOPNOTSUPP}},
		"older":                     {func(c closed) (bool, error) { return c.waits, nil }, 2, Closed{Ended: 1, Left: 2, Why: errEndsNone}},
		"TIME_WAIT alone is left": {func(c closed) (bool, error) {
			if c.waits {
				return false, unix.EOPNOTSUPP
			}
			return true, nil
		}, 3, Closed{Ended: 2, Left: 1, Why: unix.EOPNOTSUPP}},
		"ended meanwhile": {func(closed) (bool, error) { return true, unix.ENOENT }, 3, Closed{}},
	} {
		list, tried := slices.Clone(connections), 0
		e := ender{ended: map[uint64]bool{}, list: func() ([]closed, error) { return slices.Clone(list), nil }}
		e.destroy = func(c closed) error {
			tried++
			ends, err := k.destroy(c)
			if ends {
				list = slices.DeleteFunc(list, func(o closed) bool { return o == c })
			}
			return err
		}
		what, err := e.all()
		if err != nil || tried != k.tried || what.Ended != k.want.Ended || what.Left != k.want.Left || !errors.Is(what.Why, k.want.Why) {
			t.Errorf("%s: %+v after %d, %v; want %+v after %d", name, what, tried, err, k.want, k.tried)
		}
	}
	e := ender{list: func() ([]closed, error) { return nil, unix.ENOENT }}
	if what, err := e.all(); err != nil || what.Why == nil {
		t.Errorf("without INET_DIAG: %+v, %v", what, err)
	}
}
