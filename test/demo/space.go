package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// space is a network namespace: a thread that lives in it, and does there what it is
// told. The thread stays until the process ends, and so do processes that it starts
// with a Pdeathsig.
type space struct {
	fd   int // of the namespace
	jobs chan func(*netlink.Handle)
}

func newSpace() (*space, error) {
	s := &space{jobs: make(chan func(*netlink.Handle))}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread()
		h, err := s.enter()
		ready <- err
		if err != nil {
			return
		}
		for job := range s.jobs {
			job(h)
		}
	}()
	return s, <-ready
}

func (s *space) enter() (*netlink.Handle, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	var err error
	if s.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return nil, err
	}
	h, err := netlink.NewHandle()
	if err != nil {
		return nil, err
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	return h, h.LinkSetUp(lo)
}

// do has the thread do a job, and waits for it.
func (s *space) do(job func(*netlink.Handle) error) error {
	done := make(chan error)
	s.jobs <- func(h *netlink.Handle) { done <- job(h) }
	return <-done
}

// link makes a pair of devices to another space, both up.
func (s *space) link(name string, to *space, peer string) error {
	attributes := netlink.NewLinkAttrs()
	attributes.Name = name
	err := s.do(func(h *netlink.Handle) error {
		if err := h.LinkAdd(&netlink.Veth{LinkAttrs: attributes, PeerName: peer, PeerNamespace: netlink.NsFd(to.fd)}); err != nil {
			return fmt.Errorf("make a veth device: %w", err)
		}
		return setUp(h, name, true)
	})
	if err != nil {
		return err
	}
	return to.do(func(h *netlink.Handle) error { return setUp(h, peer, true) })
}

func setUp(h *netlink.Handle, name string, up bool) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	if up {
		return h.LinkSetUp(link)
	}
	return h.LinkSetDown(link)
}

// addAddress gives a device an address, as 192.0.2.1/24.
func addAddress(h *netlink.Handle, device, address string) error {
	link, err := h.LinkByName(device)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	return h.AddrAdd(link, a)
}

// addRoute adds a route by a router; "" as the destination is a default.
func addRoute(h *netlink.Handle, destination, router string, metric int) error {
	r := netlink.Route{Gw: parseIP(router), Priority: metric}
	if destination != "" {
		var err error
		if r.Dst, err = netlink.ParseIPNet(destination); err != nil {
			return err
		}
	}
	return h.RouteAdd(&r)
}

// forward has the thread's namespace be a router.
func forward() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) }
