package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/socket"
)

// The first goroutine of a process with sockets stays in the first thread, which then
// can end by itself: nothing but an init has it there.
func init() {
	if os.Getenv(serving) != "" {
		runtime.LockOSThread()
	}
}

// endThread ends this thread alone.
func endThread() {
	_, _, errno := unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
	panic(errno)
}

// awaitLeader waits until the first thread of this process has ended.
func awaitLeader() {
	for ; ; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", os.Getpid()))
		if err != nil || strings.Contains(string(text), ") Z ") {
			return
		}
	}
}

// apart is a thread with a table of files of its own: a copy, at first.
type apart struct{ work chan func() }

func startApart() (*apart, error) {
	a, begun := &apart{work: make(chan func())}, make(chan error)
	go func() {
		runtime.LockOSThread()
		begun <- unix.Unshare(unix.CLONE_FILES)
		for work := range a.work {
			work()
		}
	}()
	return a, <-begun
}

// do has the thread do something.
func (a *apart) do(s server, words []string) (text string, err error) {
	done := make(chan bool)
	a.work <- func() {
		text, err = s.do(words)
		close(done)
	}
	<-done
	return text, err
}

func startThreads(number string) error {
	n, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	begun := make(chan bool)
	for range n {
		go func() {
			runtime.LockOSThread()
			begun <- true
			select {}
		}()
		<-begun
	}
	return nil
}

// opensThreads tells whether pidfd_open(2) opens other threads than the first: Linux
// 6.9 and later.
func opensThreads(t *testing.T) bool {
	t.Helper()
	pidfd, err := unix.PidfdOpen(unix.Gettid(), unix.O_EXCL)
	if errors.Is(err, unix.EINVAL) {
		return false
	}
	must(t, err)
	must(t, unix.Close(pidfd))
	return true
}

// markIn is the mark of a socket that a thread alone has.
func (p *process) markIn(thread, name string) uint32 {
	p.t.Helper()
	m, err := strconv.ParseUint(p.do("in", thread, "mark", name), 0, 32)
	must(p.t, err)
	return uint32(m)
}

// checkReached has a service pinned whose process has sockets in tables of threads
// alone: so many get the mark, or it is said that they do not.
func checkReached(t *testing.T, h *host, p *process, alone int, marks func() []uint32) {
	t.Helper()
	_, r := h.pin(pins{h.path("a"): one})
	want, refused := one.Value, 0
	if !opensThreads(t) {
		want, refused = 0, 1
	}
	for i, got := range marks() {
		if got != want {
			t.Errorf("socket %d has mark %#x, want %#x", i, got, want)
		}
	}
	said := fmt.Sprint(r.Refused)
	if len(r.Refused) != refused || refused > 0 && !(strings.Contains(said, fmt.Sprintf("process %d", p.pid)) && strings.Contains(said, fmt.Sprintf(" %d are in the table", alone)) && strings.Contains(said, "6.9")) {
		t.Errorf("it says %s", said)
	}
}

// TestSocketThreadsApart: threads have tables of files of their own, and sockets that
// stand in no other. One that was there before is in all of them, and is seen once.
func TestSocketThreadsApart(t *testing.T) {
	h := withCgroup(t)
	p := h.start("a")
	p.do("socket", "all", "udp4")
	for _, thread := range []string{"b", "c"} {
		p.do("apart", thread)
		p.do("in", thread, "socket", thread, "udp6")
	}
	p.do("socket", "later", "tcp4")
	checkReached(t, h, p, 1, func() []uint32 { return []uint32{p.markIn("b", "b"), p.markIn("c", "c")} })
	for _, name := range []string{"all", "later"} {
		if got := p.mark(name); got != one.Value {
			t.Errorf("%s has mark %#x", name, got)
		}
	}
}

// TestSocketThreadsLeaderEnded: the first thread of a process has ended, and its
// table is no more; the others have theirs.
func TestSocketThreadsLeaderEnded(t *testing.T) {
	h := withCgroup(t)
	p := h.start("a")
	p.do("socket", "s", "udp4")
	p.do("socket", "t", "tcp6")
	p.do("apart", "b")
	p.do("in", "b", "socket", "alone", "udp4")
	p.do("leave")
	checkReached(t, h, p, 2, func() []uint32 { return []uint32{p.mark("s"), p.mark("t"), p.markIn("b", "alone")} })
}

// TestSocketThreadsOtherFamilies: where the table of a thread cannot be reached, it is
// only said if sockets of IPv4 or IPv6 may be in it.
func TestSocketThreadsOtherFamilies(t *testing.T) {
	h := withCgroup(t)
	p := h.start("a")
	p.do("socket", "all", "udp4")
	p.do("apart", "b")
	for _, kind := range []string{"unix", "netlink", "packet"} {
		p.do("in", "b", "socket", kind, kind)
	}
	if _, r := h.pin(pins{h.path("a"): one}); len(r.Refused) > 0 || r.Changed != 1 {
		t.Errorf("%+v", r)
	}
}

// TestSocketThreadsMany: of threads that share their table one is looked at; where the
// kernel does not tell, all are.
func TestSocketThreadsMany(t *testing.T) {
	const sockets, all = 40, 60
	h := withCgroup(t)
	p, giver := h.start("a"), h.start("b")
	for i := range sockets {
		p.do("socket", fmt.Sprint("s", i), "udp4")
	}
	p.do("threads", all)
	tids, err := threads(p.pid)
	must(t, err)
	alone := slices.DeleteFunc(slices.Clone(tids), func(tid int) bool { return sameTable(tid, p.pid) })
	if len(tids) <= all || len(alone) > 0 {
		t.Errorf("of %d threads %d do not share", len(tids), len(alone))
	}
	var r Report
	must(t, h.client.Give(context.Background(), socket.Remark{Cgroup: h.path("a"), To: one}, &r))
	if r.Changed != sockets || len(r.Refused) > 0 {
		t.Errorf("%+v", r)
	}
	for i := range sockets {
		p.do("set", fmt.Sprint("s", i), 0)
	}
	giver.do("without-kcmp")
	if got, want := giver.do("give", h.point, h.path("a")), fmt.Sprint(sockets, sockets, []error{}); got != want {
		t.Errorf("without kcmp(2): %q, want %q", got, want)
	}
}
