package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// farAddress is on the far side, behind both ISPs.
const farAddress = "203.0.113.1"

// mark is that of up2.
const mark = 0x2005

// host is one of the two copies, with its surroundings and who keeps its rules.
type host struct {
	*space
	isps   [2]*isp // of up1 and up2
	keeper keeper
	sender *sender

	leases [2]string     // the addresses that the uplinks have, "" without one
	took   time.Duration // the last hook that came to its end
	killed int           // hooks, while they ran
}

// A keeper is who keeps a host's rules.
type keeper struct {
	name string
	boot func(*host) error // before the first lease; nil: nothing
	hook []string          // what a DHCP client calls, with the event in the environment
	env  []string          // besides
	// killed is `kill -9` of what stays beside the hooks, nil where nothing does. It is
	// back after a while.
	killed func(*host, time.Duration) error
}

func newHost(k keeper) (*host, error) {
	far, err := newSpace()
	if err != nil {
		return nil, err
	}
	if err := far.do(func(h *netlink.Handle) error { return listen(h) }); err != nil {
		return nil, err
	}
	s, err := newSpace()
	if err != nil {
		return nil, err
	}
	h := &host{space: s, keeper: k}
	for n, net := range []string{"192.0.2.0/24", "198.51.100.0/24"} {
		if h.isps[n], err = newISP(n+1, net, far); err != nil {
			return nil, err
		}
		if err := s.link(uplink(n), h.isps[n].space, "home"); err != nil {
			return nil, err
		}
		if err := h.isps[n].serve(); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// listen gives the thread's namespace the far address. Its socket takes what comes,
// and is not read: nothing comes back.
func listen(h *netlink.Handle) error {
	if err := addAddress(h, "lo", farAddress+"/32"); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Bind(fd, &unix.SockaddrInet4{Port: pinnedPort})
}

// uplink is the name of an uplink, of which 0 is the first.
func uplink(n int) string { return fmt.Sprintf("up%d", n+1) }

// up2 is the number of the uplink that the sender is pinned to.
const up2 = 1

// bound has a DHCP client do what dhclient-script does with a lease: give the uplink
// its address and main its default, and then call the hook, which is killed after kill
// where that is not 0.
func (h *host) bound(reason string, n int, address string, kill time.Duration) error {
	old := h.leases[n]
	if old != address {
		if err := h.flush(n); err != nil {
			return err
		}
		err := h.do(func(rtnl *netlink.Handle) error {
			if err := addAddress(rtnl, uplink(n), address+"/24"); err != nil {
				return err
			}
			return addRoute(rtnl, "", h.isps[n].router(), 1024*(n+1))
		})
		if err != nil {
			return fmt.Errorf("%s: %w", uplink(n), err)
		}
	}
	h.leases[n] = address
	event := []string{"reason=" + reason, "interface=" + uplink(n), "new_ip_address=" + address, "new_subnet_mask=255.255.255.0", "new_routers=" + h.isps[n].router()}
	if old != "" {
		event = append(event, "old_ip_address="+old)
	}
	return h.call(event, kill)
}

// expired has the client give a lease up.
func (h *host) expired(n int) error {
	old := h.leases[n]
	if err := h.flush(n); err != nil {
		return err
	}
	h.leases[n] = ""
	return h.call([]string{"reason=EXPIRE", "interface=" + uplink(n), "old_ip_address=" + old}, 0)
}

// flush takes all IPv4 addresses off an uplink; its routes go with them.
func (h *host) flush(n int) error {
	return h.do(func(rtnl *netlink.Handle) error {
		link, err := rtnl.LinkByName(uplink(n))
		if err != nil {
			return err
		}
		addresses, err := rtnl.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		for _, a := range addresses {
			if err := rtnl.AddrDel(link, &a); err != nil {
				return err
			}
		}
		return nil
	})
}

// call runs the hook, and kills it after a while where one is given.
func (h *host) call(event []string, kill time.Duration) error {
	begun := time.Now()
	var complaint bytes.Buffer
	cmd, err := h.start(&complaint, append(h.keeper.env, event...), h.keeper.hook...)
	if err != nil {
		return err
	}
	if kill > 0 {
		timer := time.AfterFunc(kill, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	err = cmd.Wait()
	if kill > 0 && isKilled(err) {
		h.killed++
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s, called with %v: %w\n%s", h.keeper.name, event, err, complaint.String())
	}
	h.took = time.Since(begun)
	return nil
}

func isKilled(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// start starts a command on the host.
func (h *host) start(stderr *bytes.Buffer, env []string, command ...string) (*exec.Cmd, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
	cmd.Stderr = stderr
	cmd.WaitDelay = time.Second // what it left running may hold stderr open
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, h.do(func(*netlink.Handle) error { return cmd.Start() })
}

// plug pulls the cable of an uplink, or puts it in again.
func (h *host) plug(n int, in bool) error {
	return h.isps[n].do(func(rtnl *netlink.Handle) error { return setUp(rtnl, "home", in) })
}

// deleteRules deletes all rules but those that a host begins with, as `networkctl
// reconfigure` does.
func (h *host) deleteRules() error {
	return h.do(func(rtnl *netlink.Handle) error {
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			rules, err := rtnl.RuleList(family)
			if err != nil {
				return err
			}
			for _, r := range rules {
				if r.Priority == 0 || r.Priority >= 32766 { // local, main and default
					continue
				}
				// By its priority; another program may have been faster.
				del := netlink.NewRule()
				del.Family, del.Priority = family, r.Priority
				if err := rtnl.RuleDel(del); err != nil && !errors.Is(err, unix.ENOENT) {
					return err
				}
			}
		}
		return nil
	})
}

// counts are the pinned sender's packets so far, where ISPs got them.
type counts struct{ right, wrong uint64 }

func (c counts) without(d counts) counts { return counts{c.right - d.right, c.wrong - d.wrong} }

// count: right is what up2's ISP has passed on, wrong is what came to the other one,
// whether that passed it on or not.
func (h *host) count() (c counts, err error) {
	if c.right, err = h.isps[up2].count(passed); err != nil {
		return c, err
	}
	c.wrong, err = h.isps[0].count(came)
	return c, err
}

func parseIP(text string) net.IP { return net.ParseIP(text) }
