package run

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// signalled is what a shell adds to the number of the signal that ended a
// command.
const signalled = 128

// forwarded are the signals that the command gets in our place. SIGTSTP is not
// among them: a terminal's stops the command and us alike, and so does its
// SIGCONT.
var forwarded = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGWINCH, syscall.SIGCONT,
}

// forwardSignals passes on what we get, until stop is called. The command is in
// our process group, so the terminal is its own as it is ours, in a pipeline
// too; what a terminal's keys send, it has got already. One with a terminal of its
// own is in a session of its own.
func (p *process) forwardSignals() (stop func()) {
	if p.terminal != nil {
		return p.tend()
	}
	signals, done := make(chan os.Signal, 16), make(chan struct{})
	signal.Notify(signals, wanted()...)
	go func() {
		defer close(done)
		for s := range signals {
			if keys := s == syscall.SIGINT || s == syscall.SIGQUIT; !keys || !inForeground() {
				_ = p.cmd.Process.Signal(s) // it may have ended
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-done
	}
}

// inForeground reports whether our process group is the one that a terminal
// sends its signals to.
func inForeground() bool {
	fd, err := unix.Open(controlling, unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false // no terminal
	}
	defer unix.Close(fd)
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// wait waits for the end of the process, and returns its exit status.
func (p *process) wait() int {
	_ = p.cmd.Wait() // its files are ours, so it fails for an exit status alone
	p.ended = true
	if p.terminal != nil {
		p.terminal.close()
	}
	s, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && s.Signaled() {
		return signalled + int(s.Signal())
	}
	return p.cmd.ProcessState.ExitCode()
}
