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
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/policy/sim"
)

// namespace opens a client in a network namespace of its own, which ends with
// the test's thread.
func namespace(t testing.TB) *Client {
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

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// build makes the links and addresses that scenarios begin with.
func build(t testing.TB, c *Client) {
	t.Helper()
	for _, l := range sim.Links {
		peer := "peer-" + l.Name
		must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: l.Name}, PeerName: peer}))
		for _, name := range []string{l.Name, peer} {
			link, err := netlink.LinkByName(name)
			must(t, err)
			if l.Up {
				must(t, netlink.LinkSetUp(link))
			}
		}
	}
	for _, a := range sim.Addrs {
		link, err := netlink.LinkByName(a.Device)
		must(t, err)
		bits := a.Prefix.Addr().BitLen()
		must(t, netlink.AddrAdd(link, &netlink.Addr{
			IPNet: &net.IPNet{IP: a.Prefix.Addr().AsSlice(), Mask: net.CIDRMask(a.Prefix.Bits(), bits)},
			Flags: unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD,
		}))
	}
	_, err := c.Facts() // learns the links' indexes
	must(t, err)
}

// run makes an operation, and returns the kernel's own answer.
func run(t *testing.T, c *Client, o sim.Op) syscall.Errno {
	var err error
	if o.TooBig.Dst.IsValid() {
		tooBig(t, o.TooBig)
	} else if o.Append {
		body := appendRoute(nil, &o.Route, c.links[o.Route.Device])
		_, err = c.socket.ask(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_APPEND|unix.NLM_F_ACK, body, 0, nil)
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
// the two must agree, and so must a trace.
func TestScenarios(t *testing.T) {
	for _, tc := range sim.Scenarios() {
		t.Run(tc.Name, func(t *testing.T) {
			c := namespace(t)
			build(t, c)
			for _, o := range tc.Ops {
				if errno := run(t, c, o); errno != o.Errno {
					t.Errorf("%s: %v, want %v", o.Step, errno, o.Errno)
				}
			}
			f, err := c.Facts()
			must(t, err)
			rules := slices.DeleteFunc(f.Rules, func(r policy.Rule) bool { return r.Protocol == policy.ProtocolKernel })
			if d := cmp.Diff(tc.Rules, rules, comparable); len(tc.Rules)+len(rules) > 0 && d != "" {
				t.Errorf("rules (-want +got):\n%s", d)
			}
			routes := standing(t, c)
			slices.SortStableFunc(routes, byTable)
			slices.SortStableFunc(tc.Routes, byTable)
			if d := cmp.Diff(tc.Routes, routes, comparable); len(tc.Routes)+len(routes) > 0 && d != "" {
				t.Errorf("routes (-want +got):\n%s", d)
			}
			tracer := tracer{t: t, c: c, links: f.Links, rules: map[fwmark.Family][]policy.TracedRule{}}
			for _, a := range tc.RouteGets {
				tracer.check("traced", policy.Probe{Packet: a.Packet})
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
		before := len(f.Routes)
		must(t, c.dumpRoutes(family, 0, 0, c.device, func() { f.Routes = f.Routes[:before] }, func(r *policy.Route) {
			if r.Protocol != unix.RTPROT_KERNEL {
				f.Routes = append(f.Routes, *r)
			}
		}))
	}
	return f.Routes
}

// ask looks a packet's route up, and returns the device that it leaves by.
func ask(t *testing.T, c *Client, p policy.Packet) (string, syscall.Errno) {
	t.Helper()
	answers, err := c.Ask([]policy.Packet{p})
	must(t, err)
	return answers[0].Device, answers[0].Errno
}

// byTable orders routes but for those of one destination in one table, whose
// order counts.
func byTable(a, b policy.Route) int {
	return gocmp.Or(gocmp.Compare(a.Family, b.Family), gocmp.Compare(a.Table, b.Table), gocmp.Compare(a.Dst.String(), b.Dst.String()))
}
