package kernel

import (
	"math/rand/v2"
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/policy/policytest"
)

// host makes a random host in a network namespace. What the kernel refuses is not
// there.
func host(t *testing.T, h policytest.Host) *Client {
	t.Helper()
	c := namespace(t)
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	for _, l := range h.Links {
		must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: l.Name}, PeerName: "p-" + l.Name}))
		for _, name := range []string{l.Name, "p-" + l.Name} {
			link, err := netlink.LinkByName(name)
			must(t, err)
			must(t, netlink.LinkSetUp(link))
		}
	}
	for _, a := range h.Addrs {
		link, err := netlink.LinkByName(a.Device)
		must(t, err)
		bits := a.Prefix.Addr().BitLen()
		_ = netlink.AddrAdd(link, &netlink.Addr{
			IPNet: &net.IPNet{IP: a.Prefix.Addr().AsSlice(), Mask: net.CIDRMask(a.Prefix.Bits(), bits)},
			Flags: unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD,
		})
	}
	_, err = c.Facts()
	must(t, err)
	for _, f := range fwmark.Families {
		if h.VRF {
			local := policy.Rule{Family: f, Priority: 32765, Action: policy.Lookup, Table: policy.TableLocal, Protocol: policy.ProtocolKernel}
			must(t, apply(c, policy.Step{Op: policy.Add, Rule: local}))
			local.Priority = 0
			must(t, apply(c, policy.Step{Op: policy.Delete, Rule: local}))
		}
	}
	for i := range h.Routes {
		r := &h.Routes[i]
		_, _ = c.socket.ask(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_APPEND|unix.NLM_F_ACK, appendRoute(nil, r, c.links[r.Device]), 0, nil)
	}
	for _, r := range h.Rules {
		_ = apply(c, policy.Step{Op: policy.Add, Rule: r})
	}
	return c
}

// TestWhoseAsTheKernelHasIt converges random hosts, with the kernel's own look-up
// after each step; the simulated kernel has many more.
func TestWhoseAsTheKernelHasIt(t *testing.T) {
	for seed := range uint64(30) {
		h := policytest.RandomHost(rand.New(rand.NewPCG(seed, 1)))
		c := host(t, h)
		err := policytest.Converge(h, seed%2 == 1, func() policy.Facts {
			f, err := c.Facts()
			must(t, err)
			return f
		}, func(s policy.Step) error { return apply(c, s) }, func(p policy.Packet) policytest.Way {
			device, errno := ask(t, c, p)
			return policytest.Way{Device: device, Errno: errno}
		})
		if err != nil {
			f, _ := c.Facts()
			for _, r := range f.Rules {
				t.Logf("%s proto %d", r, r.Protocol)
			}
			for _, r := range f.Routes {
				t.Logf("%s proto %d opaque %t", r, r.Protocol, r.Opaque)
			}
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}
