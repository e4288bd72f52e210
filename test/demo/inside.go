package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// insideRole is that of the process in the user namespace.
const insideRole = "inside"

const before = `Two copies of a host with two uplinks. Each ISP drops what has another one's
source. On each host a program sends %d packets a second, pinned to up2 (mark
%#x), and the ISPs count them: right came by up2, wrong by up1. What the host
refused is in neither, nor what was sent while the cable was out.

`

const ended = `
Sent were %d and %d packets; the hosts refused %d and %d.
Killed while they ran: %d and %d hooks of %d.
`

// inside makes both hosts, and shows them.
func (o options) inside() error {
	// Where it lies may be covered in a moment.
	program, err := unix.Open(o.binary, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("--binary %s: %w", o.binary, err)
	}
	if err := ownFiles(); err != nil {
		return err
	}
	k, err := kept(program)
	if err != nil {
		return err
	}
	s := show{out: os.Stdout, terminal: term.IsTerminal(int(os.Stdout.Fd()))}
	for n, k := range []keeper{shell(), k} {
		if s.hosts[n], err = newHost(k); err != nil {
			if isDenial(err) {
				err = denied(err)
			}
			return err
		}
	}
	fmt.Fprintf(s.out, before, rate, mark)
	for _, h := range s.hosts {
		if h.keeper.boot != nil {
			if err := h.keeper.boot(h); err != nil {
				return err
			}
		}
		if err := h.startSender(); err != nil {
			return err
		}
	}
	total, err := s.play(o.length())
	if err != nil {
		return err
	}
	for _, h := range s.hosts {
		h.sender.end()
	}
	a, b := s.hosts[0].sender, s.hosts[1].sender
	fmt.Fprintf(s.out, "\n%s", resultOf(total))
	fmt.Fprintf(s.out, ended, a.sent, b.sent, a.refused, b.refused, s.hosts[0].killed, s.hosts[1].killed, kills)
	lookFurther(s.out)
	if o.shell {
		return s.hosts[1].shell()
	}
	return nil
}

// ownFiles gives this process and all that it starts files of their own, where this
// machine's would be read or written.
func ownFiles() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return denied(fmt.Errorf("have mounts of its own: %w", err))
	}
	for _, dir := range []string{"/run", "/etc/network", "/etc/dhcp", "/var/lib/wg-multihome"} {
		if err := unix.Mount("demo", dir, "tmpfs", 0, "mode=755"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return denied(fmt.Errorf("mount a tmpfs on %s: %w", dir, err))
		}
	}
	// What is said here is not for this machine's log.
	if err := unix.Mount("/dev/null", "/dev/log", "", unix.MS_BIND, ""); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return denied(fmt.Errorf("mount something else on /dev/log: %w", err))
	}
	return nil
}

// shell opens one on the host.
func (h *host) shell() error {
	name := os.Getenv("SHELL")
	if name == "" {
		name = "/bin/sh"
	}
	cmd := exec.Command(name)
	cmd.Env = append(os.Environ(), "PATH="+commands+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := h.do(func(*netlink.Handle) error { return cmd.Start() }); err != nil {
		return err
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}

// packaged is this program's name in the package.
const packaged = "wg-multihome-demo"

// lookFurther says what to type next.
func lookFurther(out io.Writer) {
	program, demo := "go run ./cmd/wg-multihome", "go run ./test/demo"
	if filepath.Base(os.Args[0]) == packaged {
		program, demo = "wg-multihome", packaged
	}
	fmt.Fprintf(out, "\nTo look further:\n")
	for _, c := range [][2]string{
		{program + " plan", "what it would do on this very host"},
		{program + " doctor", "what here defeats pinning, or will"},
		{demo + " --shell", "ends in a shell on the demo's host, for"},
	} {
		fmt.Fprintf(out, "  %-34s  %s\n", c[0], c[1])
	}
	fmt.Fprintf(out, "      ip rule; wg-multihome status\n      wg-multihome explain --mark %#x %s\n", mark, farAddress)
}
