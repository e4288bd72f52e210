package kernel

import (
	gocmp "cmp"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/policy/sim"
)

// namespace opens a client in a network namespace of its own, which ends with
// the test's thread.
func namespace(t *testing.T) *Client {
	t.Helper()
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace (as root): %v", err)
	}
	c, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// build makes the links and addresses that scenarios begin with.
func build(t *testing.T, c *Client) {
	t.Helper()
	for _, l := range sim.Links {
		peer := "peer-" + l.Name
		must(t, c.handle.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: l.Name}, PeerName: peer}))
		for _, name := range []string{l.Name, peer} {
			link, err := c.handle.LinkByName(name)
			must(t, err)
			if l.Up {
				must(t, c.handle.LinkSetUp(link))
			}
		}
	}
	for _, a := range sim.Addrs {
		link, err := c.handle.LinkByName(a.Device)
		must(t, err)
		bits := a.Prefix.Addr().BitLen()
		must(t, c.handle.AddrAdd(link, &netlink.Addr{
			IPNet: &net.IPNet{IP: a.Prefix.Addr().AsSlice(), Mask: net.CIDRMask(a.Prefix.Bits(), bits)},
			Flags: unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD,
		}))
	}
	_, err := c.Facts() // learns the links' indexes
	must(t, err)
}

// run makes an operation, and returns the kernel's own answer.
func run(c *Client, o sim.Op) syscall.Errno {
	var err error
	if o.Append {
		var req *nl.NetlinkRequest
		if req, err = c.route(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, o.Route); err == nil {
			err = c.steps.execute([]*nl.NetlinkRequest{req})[0]
		}
	} else {
		err = c.try([]policy.Step{o.Step})[0]
	}
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		return syscall.ENOTRECOVERABLE
	}
	return errno
}

var comparable = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// TestScenarios runs the simulated kernel's scenarios on the real one:
// the two must agree.
func TestScenarios(t *testing.T) {
	for _, tc := range sim.Scenarios() {
		t.Run(tc.Name, func(t *testing.T) {
			c := namespace(t)
			build(t, c)
			for _, o := range tc.Ops {
				if errno := run(c, o); errno != o.Errno {
					t.Errorf("%s: %v, want %v", o.Step, errno, o.Errno)
				}
			}
			f, err := c.Facts()
			must(t, err)
			rules := slices.DeleteFunc(f.Rules, func(r policy.Rule) bool { return r.Protocol == sim.ProtocolKernel })
			if d := cmp.Diff(tc.Rules, rules, comparable); len(tc.Rules)+len(rules) > 0 && d != "" {
				t.Errorf("rules (-want +got):\n%s", d)
			}
			routes := standing(t, c)
			slices.SortStableFunc(routes, byTable)
			slices.SortStableFunc(tc.Routes, byTable)
			if d := cmp.Diff(tc.Routes, routes, comparable); len(tc.Routes)+len(routes) > 0 && d != "" {
				t.Errorf("routes (-want +got):\n%s", d)
			}
			for _, a := range tc.RouteGets {
				if device, errno := ask(t, c, a.Packet); errno != a.Errno || device != a.Device {
					t.Errorf("%+v leaves by %q (%v), want %q (%v)", a.Packet, device, errno, a.Device, a.Errno)
				}
			}
		})
	}
}

// standing returns all routes but the kernel's own.
func standing(t *testing.T, c *Client) []policy.Route {
	t.Helper()
	var f policy.Facts
	for _, family := range fwmark.Families {
		must(t, c.dumpRoutes(&f, family, 0, 0, func(i uint32) string { return c.names[i] }, func(r policy.Route) bool {
			return r.Protocol != unix.RTPROT_KERNEL
		}))
	}
	return f.Routes
}

// ask looks a packet's route up, and returns the device that it leaves by.
func ask(t *testing.T, c *Client, p policy.Packet) (string, syscall.Errno) {
	t.Helper()
	options := &netlink.RouteGetOptions{Mark: p.Mark}
	if p.Src.IsValid() {
		options.SrcAddr = p.Src.AsSlice()
	}
	routes, err := c.handle.RouteGetWithOptions(p.Dst.AsSlice(), options)
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return "", errno
	}
	must(t, err)
	for name, index := range c.links {
		if len(routes) == 1 && int(index) == routes[0].LinkIndex {
			return name, 0
		}
	}
	t.Fatalf("%+v: %v", p, routes)
	return "", 0
}

// byTable orders routes but for those of one destination in one table, whose
// order counts.
func byTable(a, b policy.Route) int {
	return gocmp.Or(gocmp.Compare(a.Family, b.Family), gocmp.Compare(a.Table, b.Table), gocmp.Compare(a.Dst.String(), b.Dst.String()))
}
