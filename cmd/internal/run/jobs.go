package run

import (
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A command with a terminal of its own has a session of its own, whose leader
// supervises it, as a shell does: a group of processes that nobody supervises
// cannot be stopped by SIGTSTP (POSIX, orphaned process groups). The leader writes
// the number of a signal that has stopped the command, and gets back whether it goes
// on in the foreground.
const (
	toForeground = 'f'
	toBackground = 'b'
)

// tend passes on the signals that we get, and has us stop with the command, until
// stop is called.
func (p *process) tend() (stop func()) {
	signals, done := make(chan os.Signal, 16), make(chan struct{})
	signal.Notify(signals, wanted(syscall.SIGTSTP)...)
	go func() {
		defer close(done)
		for {
			select {
			case s, ok := <-signals:
				if !ok {
					return
				}
				p.signalled(s)
			case s := <-p.stops:
				p.stopped(s)
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-done
	}
}

// readStops hears of signals that stop the command, to its end.
func (p *process) readStops() {
	defer p.orders.Close()
	b := make([]byte, 1)
	for {
		if _, err := io.ReadFull(p.orders, b); err != nil {
			return
		}
		p.stops <- syscall.Signal(b[0])
	}
}

// signalled passes a signal on. The terminal's keys have sent none to the command,
// which is in another session.
func (p *process) signalled(s os.Signal) {
	switch s {
	case syscall.SIGWINCH:
		p.terminal.resize()
		return
	case syscall.SIGCONT:
		if p.terminal.leads && p.terminal.inForeground() {
			p.terminal.take() // whoever stopped us has its own way with the terminal
		}
	}
	_ = p.cmd.Process.Signal(s) // it may have ended
}

// stopped follows a command that was stopped. One that wants to read from the
// terminal while we are in its foreground gets it. Else we stop, and what is with us
// in a pipeline.
func (p *process) stopped(s syscall.Signal) {
	t := p.terminal
	asks := s == syscall.SIGTTIN || s == syscall.SIGTTOU
	if !asks || !t.inForeground() {
		t.giveBack()
		stopGroup(s)
		asks = asks || t.leads
	}
	t.leads = asks && t.inForeground()
	order := byte(toBackground)
	if t.leads {
		t.take()
		order = toForeground
	}
	_, _ = p.orders.Write([]byte{order}) // it may have ended
}

// stopping is how long a stop signal may take to stop us. Where it does not, as in
// an orphaned group, we go on.
const stopping = 100 * time.Millisecond

// stopGroup stops our process group, and returns once it goes on.
func stopGroup(s syscall.Signal) {
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	defer signal.Stop(continued)
	defer byDefault(s)()
	_ = unix.Kill(0, s) // it is ours
	select {
	case <-continued:
	case <-time.After(stopping):
	}
}

// byDefault has a signal do what it does by default, stop us, until restore is
// called. signal.Reset has one that was caught be ignored from then on.
func byDefault(s syscall.Signal) (restore func()) {
	if signal.Ignored(s) {
		return func() {}
	}
	var zero, before [16]uint64             // larger than any struct sigaction; SIG_DFL is 0 in each
	for _, size := range []uintptr{8, 16} { // of a set of signals; 16 is that of MIPS
		if sigaction(s, &zero, &before, size) == 0 {
			return func() { sigaction(s, &before, nil, size) }
		}
	}
	return func() {} // SIGSTOP cannot be caught
}

func sigaction(s syscall.Signal, to, before *[16]uint64, size uintptr) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(before)), size, 0, 0)
	return errno
}

// wanted are the forwarded signals, and others, but for those that we were started
// to ignore, as by nohup(1): the command ignores them too.
func wanted(others ...os.Signal) []os.Signal {
	return slices.DeleteFunc(slices.Concat(forwarded, others), signal.Ignored)
}
