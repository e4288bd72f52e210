package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Burst is a process on the host that sends datagrams to nobody, as fast as it
// can, and tells how long one takes.
type Burst struct {
	Far    string
	Cgroup string // below the mount; "": the test's own
	New    bool   // each datagram begins a flow of its own
	Count  int
}

// Time returns what one send takes: the fastest of ten parts of the burst, as
// others use the machine too.
func (l *Lab) Time(b Burst) time.Duration {
	l.t.Helper()
	args := []string{self(l.t), b.Far, strconv.Itoa(b.Count), strconv.FormatBool(b.New)}
	r := l.Try([]string{roleVariable + "=burst"}, l.inCgroup(b.Cgroup, args)...)
	d, err := time.ParseDuration(strings.TrimSpace(r.Stdout))
	if err != nil {
		l.t.Fatalf("burst: %v\n%s", err, r.Stderr)
	}
	return d
}

// burst sends COUNT datagrams to DESTINATION, in one flow or in as many.
func burst(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: DESTINATION COUNT NEW")
	}
	far, err := netip.ParseAddr(args[0])
	if err != nil {
		return err
	}
	count, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	domain, to := syscall.AF_INET, func(port int) syscall.Sockaddr { return &syscall.SockaddrInet4{Addr: far.As4(), Port: port} }
	if far.Is6() {
		domain, to = syscall.AF_INET6, func(port int) syscall.Sockaddr { return &syscall.SockaddrInet6{Addr: far.As16(), Port: port} }
	}
	fd, err := syscall.Socket(domain, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	const ports, parts = 1 << 14, 10
	send := func(i int) error { return syscall.Sendto(fd, []byte("x"), 0, to(1<<15+i%ports)) }
	if args[2] != "true" {
		if err := syscall.Connect(fd, to(1<<15)); err != nil {
			return err
		}
		send = func(int) error { _, err := syscall.Write(fd, []byte("x")); return err }
		for range 1000 { // a flow that runs, with all caches warm
			_ = send(0)
		}
	}
	best := time.Duration(0)
	for part := range parts {
		begun := time.Now()
		for i := range count / parts {
			if err := send(part*(count/parts) + i); err != nil {
				return err
			}
		}
		if took := time.Since(begun) / time.Duration(count/parts); best == 0 || took < best {
			best = took
		}
	}
	fmt.Println(best)
	return nil
}
