package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Cost is a process on the host that does one thing again and again, and tells what
// it takes of the processor.
type Cost struct {
	What   string // send: a datagram of one socket that is not connected; new: a socket and a datagram; connect: a socket and a TCP connection
	To     string
	Port   int
	Count  int
	Cgroup string // below the mount; "": the test's own
}

// Cost returns the processor's time of the process for one of them, of its own code
// and the kernel's.
func (l *Lab) Cost(c Cost) time.Duration {
	l.t.Helper()
	args := []string{self(l.t), c.What, c.To, strconv.Itoa(c.Port), strconv.Itoa(c.Count)}
	r := l.Try([]string{roleVariable + "=cost"}, l.inCgroup(c.Cgroup, args)...)
	ns, err := strconv.Atoi(strings.TrimSpace(r.Stdout))
	if err != nil {
		l.t.Fatalf("cost of %+v: %s%s", c, r.Stdout, r.Stderr)
	}
	return time.Duration(ns)
}

// cost is the role: WHAT DESTINATION PORT COUNT.
func cost(args []string) error {
	if len(args) != 4 {
		return errors.New("usage: WHAT DESTINATION PORT COUNT")
	}
	to, err := netip.ParseAddr(args[1])
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(args[2], 10, 16)
	if err != nil {
		return err
	}
	count, err := strconv.Atoi(args[3])
	if err != nil || count < 1 {
		return fmt.Errorf("count %q", args[3])
	}
	domain, peer := syscall.AF_INET6, syscall.Sockaddr(&syscall.SockaddrInet6{Addr: to.As16(), Port: int(port)})
	if to.Is4() {
		domain, peer = syscall.AF_INET, &syscall.SockaddrInet4{Addr: to.As4(), Port: int(port)}
	}
	socket := func(of int, use func(fd int) error) error {
		fd, err := syscall.Socket(domain, of, 0)
		if err != nil {
			return err
		}
		return errors.Join(use(fd), syscall.Close(fd))
	}
	send := func(fd int) error { return syscall.Sendto(fd, []byte("x"), 0, peer) }
	connect := func(fd int) error {
		// Ends with a reset, so that no port waits for its time.
		linger := syscall.Linger{Onoff: 1}
		return errors.Join(syscall.Connect(fd, peer), syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &linger))
	}
	measured := func(times int, do func() error) (int64, error) {
		begun := processorTime()
		for range times {
			if err := do(); err != nil {
				return 0, err
			}
		}
		return (processorTime() - begun) / int64(times), nil
	}
	var ns int64
	switch args[0] {
	case "send":
		err = socket(syscall.SOCK_DGRAM, func(fd int) error {
			if _, err := measured(min(count, 1000), func() error { return send(fd) }); err != nil { // all caches warm
				return err
			}
			ns, err = measured(count, func() error { return send(fd) })
			return err
		})
	case "new":
		ns, err = measured(count, func() error { return socket(syscall.SOCK_DGRAM, send) })
	case "connect":
		ns, err = measured(count, func() error { return socket(syscall.SOCK_STREAM, connect) })
	default:
		err = errors.New("nothing of this name is measured")
	}
	if err == nil {
		fmt.Println(ns)
	}
	return err
}

// processorTime is what this process has had of the processor, in nanoseconds.
func processorTime() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}
