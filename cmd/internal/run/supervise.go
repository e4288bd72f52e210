package run

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// settleInTerminal makes a session of this process's own with a terminal, in place
// of the caller's wherever that one is a standard file.
func settleInTerminal(tty int) error {
	if _, err := unix.Setsid(); err != nil {
		return fmt.Errorf("make a session: %w", err)
	}
	if err := unix.IoctlSetInt(tty, unix.TIOCSCTTY, 0); err != nil {
		return fmt.Errorf("take a terminal: %w", err)
	}
	for _, fd := range standard {
		if !term.IsTerminal(fd) {
			continue
		}
		if err := unix.Dup3(tty, fd, 0); err != nil {
			return fmt.Errorf("take a terminal: %w", err)
		}
	}
	return nil
}

// supervise starts the command as a group of processes in our terminal, follows it
// to its end, and returns its exit status.
func (o order) supervise(orders *os.File, tty int) (int, error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, wanted(syscall.SIGTSTP)...)
	pid, status, err := o.start(tty)
	if err != nil {
		return status, err
	}
	signal.Ignore(syscall.SIGTTOU) // so that we can change the foreground from the background
	go func() {
		for s := range signals {
			pass(pid, s)
		}
	}()
	go obey(orders, tty, pid)
	return follow(orders, pid), nil
}

// start starts the command. With an error comes the exit status that says what went
// wrong.
func (o order) start(tty int) (pid, status int, err error) {
	sys := &syscall.SysProcAttr{Setpgid: true, Foreground: o.Foreground, Ctty: tty}
	if p := o.Privileges; p != nil {
		sys.Credential = &syscall.Credential{Uid: uint32(p.UID), Gid: uint32(p.GID)}
		for _, g := range p.Groups {
			sys.Credential.Groups = append(sys.Credential.Groups, uint32(g))
		}
	}
	pid, err = syscall.ForkExec(o.Path, o.Args, &syscall.ProcAttr{Env: o.Environment, Files: []uintptr{0, 1, 2}, Sys: sys})
	if err != nil {
		status, err = o.failed(err)
	}
	return pid, status, err
}

// pass passes a signal on: what keys send goes to all that is in the foreground
// there.
func pass(pid int, s os.Signal) {
	number, _ := s.(syscall.Signal)
	switch number {
	case syscall.SIGWINCH: // which the terminal sends itself
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP:
		_ = unix.Kill(-pid, number) // it may have ended
	default:
		_ = unix.Kill(pid, number)
	}
}

// obey continues the command as it is told.
func obey(orders *os.File, tty, pid int) {
	b := make([]byte, 1)
	for {
		if _, err := orders.Read(b); err != nil { // our parent is gone, and with it the terminal
			return
		}
		group := pid
		if b[0] == toBackground {
			group = unix.Getpgrp()
		}
		_ = unix.IoctlSetPointerInt(tty, unix.TIOCSPGRP, group) // it may have ended
		_ = unix.Kill(-pid, unix.SIGCONT)
	}
}

// follow says what stops the command, and returns its exit status.
func follow(orders *os.File, pid int) int {
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil || status.Exited():
			return status.ExitStatus()
		case status.Signaled():
			return signalled + int(status.Signal())
		case status.Stopped():
			_, _ = orders.Write([]byte{byte(status.StopSignal())}) // our parent may be gone
		}
	}
}
