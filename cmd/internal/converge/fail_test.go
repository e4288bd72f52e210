package converge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/host"
	"wg-multihome/cmd/internal/logging"
	"wg-multihome/cmd/internal/refresh"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/config"
	"wg-multihome/nft"
	nftkernel "wg-multihome/nft/kernel"
	"wg-multihome/policy"
	"wg-multihome/policy/kernel"
)

// fault says which steps are refused: one, however often it is tried, or all
// from one on, as if the run had been killed there.
type fault struct {
	refuse string // the step's text; "": none
	killed bool
	after  int // killed: how many steps are made

	at   func(step string) // nil, or called before each step
	seen []string          // the steps that were tried
}

// refuses notes that steps are tried, together or not at all.
func (f *fault) refuses(steps ...string) bool {
	f.seen = append(f.seen, steps...)
	for _, step := range steps {
		if f.at != nil {
			f.at(step)
		}
	}
	return slices.Contains(steps, f.refuse) || f.killed && len(f.seen) > f.after
}

// failing is a kernel with a fault.
type failing struct {
	host.Rtnetlink
	*fault
}

var errRefused = errors.New("refused by the test")

func (f *failing) Apply(steps []policy.Step) []error {
	errs := make([]error, len(steps))
	for i, s := range steps {
		if f.refuses(s.String()) {
			errs[i] = fmt.Errorf("%s: %w", s, errRefused)
		} else {
			errs[i] = f.Rtnetlink.Apply(steps[i : i+1])[0]
		}
	}
	return errs
}

// failingTable is an nf_tables with a fault.
type failingTable struct {
	host.Nftables
	*fault
}

func (f *failingTable) Apply(p nft.Plan) error {
	if f.refuses(p.Steps...) {
		return errRefused
	}
	return f.Nftables.Apply(p)
}

// testbed is a network namespace with two uplinks.
type testbed struct {
	t   *testing.T
	k   host.Rtnetlink
	nft host.Nftables
	nl  *netlink.Handle
	dir state.Dir

	devices []string // pinned to up2
}

const testMark = 0x2005

func newTestbed(t *testing.T) *testbed {
	t.Helper()
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace (as root): %v", err)
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	must(t, err)
	t.Cleanup(nl.Close)
	k, err := kernel.Open()
	must(t, err)
	t.Cleanup(k.Close)
	table, err := nftkernel.Open()
	must(t, err)
	t.Cleanup(table.Close)
	b := &testbed{t: t, k: k, nft: table, nl: nl, dir: state.Dir(t.TempDir())}
	for _, name := range []string{"up1", "up2"} {
		must(t, nl.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "peer-" + name}))
		for _, end := range []string{name, "peer-" + name} {
			must(t, nl.LinkSetUp(b.link(end)))
		}
	}
	b.address("up1", "192.0.2.10/24", true)
	b.address("up2", "198.51.100.10/24", true)
	must(t, nl.RouteAdd(&netlink.Route{Dst: everywhere, Gw: net.ParseIP("192.0.2.1"), LinkIndex: b.link("up1").Attrs().Index}))
	return b
}

var everywhere = &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *testbed) link(name string) netlink.Link {
	b.t.Helper()
	l, err := b.nl.LinkByName(name)
	must(b.t, err)
	return l
}

func (b *testbed) address(device, prefix string, add bool) {
	b.t.Helper()
	addr, err := netlink.ParseAddr(prefix)
	must(b.t, err)
	if add {
		must(b.t, b.nl.AddrAdd(b.link(device), addr))
	} else {
		must(b.t, b.nl.AddrDel(b.link(device), addr))
	}
}

// run is a run of its own, over a kernel that may refuse a step.
func (b *testbed) run(priority uint32, refuse string) (report.Report, []string) {
	b.t.Helper()
	return b.runWith(priority, &fault{refuse: refuse})
}

// runWith is a run over a kernel with a fault. It returns the steps that were
// tried.
func (b *testbed) runWith(priority uint32, f *fault) (report.Report, []string) {
	b.t.Helper()
	r, end := b.newRun(config.Config{
		Priority: priority, HookTimeout: time.Second,
		Intents: []fwmark.Intent{{
			Uplink: "up2", Mark: fwmark.Mark{Value: testMark, Mask: fwmark.FullMask}, Devices: b.devices,
			Gateways: [2]netip.Addr{netip.MustParseAddr("198.51.100.1")},
		}},
	}, &failing{b.k, f}, &failingTable{b.nft, f})
	defer end()
	_, rep := r.Converge(context.Background(), 0)
	return rep, f.seen
}

// configured is a host whose configuration is a value of the test.
type configured struct {
	*host.Host
	config config.Config
}

func (c configured) Observe(ctx context.Context, o *decide.Observation, parts decide.Parts) error {
	if parts.Has(decide.Configuration) {
		o.Config = c.config
	}
	return c.Host.Observe(ctx, o, parts&^decide.Configuration)
}

// newRun returns a person's run with a configuration, and what ends it.
func (b *testbed) newRun(c config.Config, k host.Rtnetlink, table host.Nftables) (r *Run, end func()) {
	b.t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	must(b.t, err)
	log := logging.New(null, false)
	h := &host.Host{State: b.dir, Log: log, Kernel: k, Nft: table}
	due := refresh.Due{State: b.dir, Log: log}
	r = &Run{Host: configured{h, c}, State: b.dir, Log: log, Person: true, MarkDue: due.Mark}
	return r, func() { _ = null.Close() }
}

// leaves returns where a packet goes, "" where it is refused.
func (b *testbed) leaves(mark uint32, source string) string {
	b.t.Helper()
	routes, err := b.nl.RouteGetWithOptions(net.ParseIP("203.0.113.1"), &netlink.RouteGetOptions{Mark: mark, SrcAddr: net.ParseIP(source)})
	if err != nil {
		return ""
	}
	l, err := b.nl.LinkByIndex(routes[0].LinkIndex)
	must(b.t, err)
	return l.Attrs().Name
}

// change is something that happens to the host, or to its configuration.
type change struct {
	name     string
	priority uint32
	do       func(b *testbed)
	keeps    bool // all addresses had their pairs before, and keep them
}

func nothing(*testbed) {}

var changes = [...]change{
	{"from nothing", 20000, nothing, false},
	{"another address", 20000, func(b *testbed) {
		b.address("up2", "198.51.100.10/24", false)
		b.address("up2", "198.51.100.77/24", true)
	}, false},
	{"a second address", 20000, func(b *testbed) { b.address("up2", "198.51.100.66/24", true) }, false},
	{"a little further forward", 19998, nothing, true},
	{"a little further back", 20001, nothing, true},
	{"far away", 300, nothing, true},
}

// TestKilledBetweenSteps ends a run after each of its steps in turn: what is
// marked does not leave by another uplink, and the next run goes on from there.
// The first steps ever put links into their group, and the next one is the mark's
// unreachable; before it nothing holds.
func TestKilledBetweenSteps(t *testing.T) {
	for after := 1; ; after++ {
		b := newTestbed(t)
		killed := 0
		for _, c := range changes {
			c.do(b)
			if after < len(b.planned(c.priority)) {
				killed++
				guarded := c.name != "from nothing" || !strings.HasPrefix(b.planned(c.priority)[after-1], "= link ")
				b.runWith(c.priority, &fault{killed: true, after: after})
				if guarded {
					b.check(fmt.Sprintf("%s, killed after %d steps", c.name, after), c.keeps)
				}
			}
			if rep, _ := b.run(c.priority, ""); rep.Status() != report.Done {
				t.Errorf("%s, after %d: %v", c.name, after, rep.Errs)
			}
			b.check(c.name, c.keeps)
			if rep, seen := b.run(c.priority, ""); rep.Status() != report.Done || len(seen) != 0 {
				t.Errorf("%s, after %d: a second run does %v", c.name, after, seen)
			}
		}
		if killed == 0 {
			return
		}
	}
}

// TestEachStepFailsOnce refuses each step of a change in turn, for a whole
// run: that run names it, what is marked does not leave by another uplink, and
// the next run mends it.
func TestEachStepFailsOnce(t *testing.T) {
	for failAt := 0; ; failAt++ {
		b := newTestbed(t)
		failed := 0
		for _, c := range changes {
			c.do(b)
			steps := b.planned(c.priority)
			if failAt < len(steps) {
				failed++
				rep, _ := b.run(c.priority, steps[failAt])
				if err := errors.Join(rep.Errs...); !errors.Is(err, errRefused) || !strings.Contains(err.Error(), steps[failAt]) {
					t.Errorf("%s, %s refused: %v", c.name, steps[failAt], err)
				}
				b.check(c.name+", refused "+steps[failAt], c.keeps)
			}
			if rep, _ := b.run(c.priority, ""); rep.Status() != report.Done {
				t.Errorf("%s, after %d: %v", c.name, failAt, rep.Errs)
			}
			b.check(c.name, c.keeps)
			if got := b.leaves(testMark, "198.51.100.66"); failAt == 0 && c.name == "far away" && got != "up2" {
				t.Errorf("in the end marked packets leave by %q", got)
			}
			if rep, seen := b.run(c.priority, ""); rep.Status() != report.Done || len(seen) != 0 {
				t.Errorf("%s, after %d: a second run does %v", c.name, failAt, seen)
			}
		}
		if failed == 0 {
			return
		}
	}
}

// planned returns the text of the steps to come.
func (b *testbed) planned(priority uint32) []string {
	b.t.Helper()
	r, end := b.newRun(config.Config{Priority: priority, Intents: []fwmark.Intent{{
		Uplink: "up2", Mark: fwmark.Mark{Value: testMark, Mask: fwmark.FullMask}, Gateways: [2]netip.Addr{netip.MustParseAddr("198.51.100.1")},
	}}}, b.k, b.nft)
	defer end()
	d, err := r.Look(context.Background())
	must(b.t, err)
	return d.Plan()
}

// check fails the test where a marked packet leaves by another uplink than its
// own; and, if each address is to keep its uplink, where one does not.
func (b *testbed) check(when string, keeps bool) {
	b.t.Helper()
	for source, uplink := range map[string]string{"192.0.2.10": "up1", "198.51.100.77": "up2", "198.51.100.66": "up2"} {
		if by := b.leaves(0, source); keeps && by != uplink {
			b.t.Errorf("%s: a packet from %s leaves by %q", when, source, by)
		}
	}
	for _, source := range []string{"", "192.0.2.10"} {
		if by := b.leaves(testMark, source); !slices.Contains([]string{"", "up2"}, by) {
			b.t.Errorf("%s: a marked packet from %q leaves by %s", when, source, by)
		}
	}
}
