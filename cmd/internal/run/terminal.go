package run

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal is a terminal of the command's own, in place of its caller's: whoever
// holds a terminal may type there, into its caller's shell (TIOCSTI, ioctl_tty(2)),
// with whatever privileges. The kernel allows it until Linux 6.2, and later by
// dev.tty.legacy_tiocsti. What is typed and shown is passed on.
type terminal struct {
	in, out int  // the caller's; in is -1 where nothing can be typed
	control bool // which is our controlling terminal, so that we are in its foreground or not
	pty     int  // our end of the command's
	tty     int  // the command's end; -1 once its process has it
	direct  bool // all of the command's standard files are the caller's terminal

	found  *term.State // the caller's terminal as it was; nil while it is so
	typed  atomic.Bool // what is typed is the command's
	awake  [2]int      // a pipe: typed has changed
	ended  [2]int      // a pipe: closed with the end of the command
	shown  chan struct{}
	leads  bool // the command is in the foreground of its terminal, as far as we have ordered
	closed bool
}

// newTerminal makes a terminal for a user's command. It is nil where the caller has
// none.
func newTerminal(uid int) (*terminal, error) {
	t := &terminal{in: -1, out: -1, pty: -1, tty: -1, awake: [2]int{-1, -1}, ended: [2]int{-1, -1}, shown: make(chan struct{})}
	if !t.findCaller() {
		return nil, nil
	}
	err := t.open(uid)
	if err == nil {
		err = errors.Join(unix.Pipe2(t.awake[:], unix.O_CLOEXEC), unix.Pipe2(t.ended[:], unix.O_CLOEXEC))
	}
	if err != nil {
		t.release()
		return nil, fmt.Errorf("make a terminal for the command: %w", err)
	}
	return t, nil
}

// findCaller finds the caller's terminal: the controlling one or, in a session
// without one, that of a standard file.
func (t *terminal) findCaller() bool {
	t.direct = true
	for _, fd := range standard {
		is := term.IsTerminal(fd)
		t.direct = t.direct && is
		if is && t.out < 1 { // rather stdout or stderr
			t.out = fd
		}
	}
	if term.IsTerminal(unix.Stdin) {
		t.in = unix.Stdin
	}
	if fd, err := unix.Open(controlling, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err == nil {
		t.in, t.out, t.control = fd, fd, true
	}
	return t.out >= 0
}

// standard are the descriptors of standard input, output and error.
var standard = [...]int{unix.Stdin, unix.Stdout, unix.Stderr}

const controlling = "/dev/tty"

// open makes the command's terminal, like the caller's and the user's own. Its end
// is opened without a path, which others may have mounted something on.
func (t *terminal) open(uid int) error {
	var err error
	if t.pty, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	if err := unix.IoctlSetPointerInt(t.pty, unix.TIOCSPTLCK, 0); err != nil {
		return err
	}
	tty, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(t.pty), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
	if errno != 0 {
		return errno
	}
	t.tty = int(tty)
	modes, err := unix.IoctlGetTermios(t.out, unix.TCGETS)
	if err == nil {
		err = unix.IoctlSetTermios(t.tty, unix.TCSETS, modes)
	}
	t.resize()
	return errors.Join(err, unix.Fchown(t.tty, uid, -1)) // so that it can open /dev/stdin
}

// resize has the command's terminal be as large as the caller's.
func (t *terminal) resize() {
	if size, err := unix.IoctlGetWinsize(t.out, unix.TIOCGWINSZ); err == nil {
		_ = unix.IoctlSetWinsize(t.pty, unix.TIOCSWINSZ, size) // as it was is good enough
	}
}

// handOver closes the command's end, which its process has, and begins to pass on
// what is typed and shown.
func (t *terminal) handOver() {
	_ = unix.Close(t.tty) // nothing was written
	t.tty = -1
	go t.passTyped()
	go t.show()
}

// inForeground reports whether the caller's terminal is ours to read from.
func (t *terminal) inForeground() bool {
	if !t.control {
		return t.in >= 0
	}
	group, err := unix.IoctlGetInt(t.in, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// take has what is typed go to the command, keys that make signals included.
func (t *terminal) take() {
	if t.in < 0 {
		return
	}
	if t.found == nil {
		t.found, _ = term.MakeRaw(t.in) // nil where it is gone
	}
	t.setTyped(true)
}

// giveBack leaves the caller's terminal as it was found. In the background that is
// up to who has put us there.
func (t *terminal) giveBack() {
	t.setTyped(false)
	if t.found != nil && t.inForeground() {
		_ = term.Restore(t.in, t.found) // it may be gone
	}
	t.found = nil
}

func (t *terminal) setTyped(typed bool) {
	if t.typed.Swap(typed) != typed {
		_, _ = unix.Write(t.awake[1], []byte{0})
	}
}

// close leaves the caller's terminal as it was, once all is shown that the command
// has written.
func (t *terminal) close() {
	if t.closed {
		return
	}
	t.closed = true
	_ = unix.Close(t.ended[1])
	t.ended[1] = -1
	<-t.shown
	t.giveBack()
}

// release closes what a terminal has open that nobody reads.
func (t *terminal) release() {
	for _, fd := range []int{t.pty, t.tty, t.awake[0], t.awake[1], t.ended[0], t.ended[1]} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// passTyped passes on what is typed, while it is the command's.
func (t *terminal) passTyped() {
	b := make([]byte, 4096)
	for {
		from := -1 // which poll(2) passes over
		if t.typed.Load() {
			from = t.in
		}
		ready, err := poll(t.awake[0], from)
		if err != nil {
			return
		}
		if ready[0] {
			_, _ = read(t.awake[0], b)
			continue
		}
		n, err := read(t.in, b)
		if n <= 0 || err != nil || write(t.pty, b[:n]) != nil { // one of both is gone
			return
		}
	}
}

// lastWords bounds what is shown after the command's end: what it has left behind
// may write on, and its terminal holds no more than this (TTYB_DEFAULT_MEM_LIMIT of
// the kernel).
const lastWords = 64 << 10

// show shows what the command writes: until nobody can write any more or, after its
// end, nothing is left to be shown.
func (t *terminal) show() {
	defer close(t.shown)
	b := make([]byte, 4096)
	for left := lastWords; left > 0; {
		ready, err := poll(t.pty, t.ended[0])
		if err != nil || !ready[0] {
			return
		}
		n, err := read(t.pty, b)
		if n <= 0 || err != nil || write(t.out, b[:n]) != nil {
			return
		}
		if ready[1] {
			left -= n
		}
	}
}

// poll waits until one of the files can be read, or is at its end.
func poll(files ...int) (ready []bool, err error) {
	fds := make([]unix.PollFd, len(files))
	for i, fd := range files {
		fds[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	}
	for err = unix.EINTR; err == unix.EINTR; {
		_, err = unix.Poll(fds, -1)
	}
	for _, fd := range fds {
		ready = append(ready, fd.Revents != 0)
	}
	return ready, err
}

func read(fd int, b []byte) (n int, err error) {
	for err = unix.EINTR; err == unix.EINTR; {
		n, err = unix.Read(fd, b)
	}
	return n, err
}

func write(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		switch {
		case err == unix.EAGAIN: // others have made the caller's terminal so
			time.Sleep(time.Millisecond)
		case err != nil && err != unix.EINTR:
			return err
		}
		b = b[max(n, 0):]
	}
	return nil
}
