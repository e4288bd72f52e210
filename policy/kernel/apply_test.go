package kernel

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

func apply(c *Client, s policy.Step) error { return c.Apply([]policy.Step{s})[0] }

// highRoute leads through a table above 2³¹, as those of all addresses of
// 128/1 are.
func highRoute() policy.Route {
	return policy.Route{
		Family: fwmark.IPv4, Table: 3232246494, Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: policy.Unicast,
		Gateway: netip.MustParseAddr("192.0.2.1"), Device: "dm0", Src: netip.MustParseAddr("192.0.2.2"), Protocol: policy.Protocol, OnLink: true,
	}
}

// TestHighTables matters on machines where an int has 32 bits: with netlink's
// own codec the route lands in main.
func TestHighTables(t *testing.T) {
	c := namespace(t)
	build(t, c)
	six := policy.Route{
		Family: fwmark.IPv6, Table: 0xE0000001, Dst: netip.MustParsePrefix("::/0"), Type: policy.Unicast, Metric: 1024,
		Gateway: netip.MustParseAddr("fe80::1"), Device: "dm0", Protocol: policy.Protocol,
	}
	want := []policy.Route{highRoute(), six}
	for _, r := range want {
		must(t, apply(c, policy.Step{Op: policy.Add, IsRoute: true, Route: r}))
		rule := policy.Rule{Family: r.Family, Priority: 3000000000, Action: policy.Lookup, Table: r.Table, Protocol: policy.Protocol}
		must(t, apply(c, policy.Step{Op: policy.Add, Rule: rule}))
	}
	f, err := c.Facts()
	must(t, err)
	var ours []policy.Route
	for _, r := range f.Routes {
		if r.Table == policy.TableMain && r.Dst.Bits() == 0 {
			t.Errorf("in main: %s", r)
		}
		if r.Ours() {
			ours = append(ours, r)
		}
	}
	if len(ours) != 2 || ours[0] != want[0] || ours[1] != want[1] {
		t.Errorf("routes %v, want %v", ours, want)
	}
	rules := 0
	for _, r := range f.Rules {
		if r.Ours() && r.Priority == 3000000000 && (r.Table == want[0].Table || r.Table == want[1].Table) {
			rules++
		}
	}
	if rules != 2 {
		t.Errorf("rules %v", f.Rules)
	}
}

// TestDoneAlready: what stands already, or is gone already, is done.
func TestDoneAlready(t *testing.T) {
	c := namespace(t)
	build(t, c)
	rule := policy.Rule{Priority: 5, Action: policy.Unreachable, Mark: fwmark.Mark{Value: 1, Mask: fwmark.FullMask}, Protocol: policy.Protocol}
	for range 2 {
		must(t, apply(c, policy.Step{Op: policy.Add, Rule: rule}))
		must(t, apply(c, policy.Step{Op: policy.Add, IsRoute: true, Route: highRoute()}))
	}
	for range 2 {
		must(t, apply(c, policy.Step{Op: policy.Delete, Rule: rule}))
		must(t, apply(c, policy.Step{Op: policy.Delete, IsRoute: true, Route: highRoute()}))
	}
}

// TestErrorsNameTheStep, and keep the kernel's own words.
func TestErrorsNameTheStep(t *testing.T) {
	c := namespace(t)
	build(t, c)
	r := highRoute()
	r.OnLink = false // main is empty, so nothing leads to the gateway
	err := apply(c, policy.Step{Op: policy.Add, IsRoute: true, Route: r})
	if err == nil || !strings.HasPrefix(err.Error(), "+ route 4 3232246494 default via 192.0.2.1 dev dm0 src 192.0.2.2: ") || !strings.Contains(err.Error(), "gateway") {
		t.Errorf("error: %v", err)
	}
	r.Device = "absent0"
	if err := apply(c, policy.Step{Op: policy.Add, IsRoute: true, Route: r}); err == nil || !strings.Contains(err.Error(), `"absent0"`) {
		t.Errorf("error: %v", err)
	}
}

// TestManyTables has foreign rules look up more tables than are dumped one by
// one, one of them with a default.
func TestManyTables(t *testing.T) {
	for _, count := range []int{1, manyTables + 5} {
		c := namespace(t)
		build(t, c)
		for i := range count {
			must(t, apply(c, policy.Step{Op: policy.Add, Rule: policy.Rule{Priority: uint32(100 + i), Action: policy.Lookup, Table: uint32(1000 + i)}}))
		}
		r := highRoute()
		r.Table, r.Protocol = 1000, 3
		must(t, apply(c, policy.Step{Op: policy.Add, IsRoute: true, Route: r}))
		r.Table = 5 // nobody looks there
		must(t, apply(c, policy.Step{Op: policy.Add, IsRoute: true, Route: r}))
		must(t, apply(c, policy.Step{Op: policy.Add, IsRoute: true, Route: highRoute()}))
		f, err := c.Facts()
		must(t, err)
		tables := map[uint32]int{}
		for _, r := range f.Routes {
			if r.Dst.Bits() == 0 && r.Family == fwmark.IPv4 {
				tables[r.Table]++
			}
		}
		if len(tables) != 2 || tables[1000] != 1 || tables[3232246494] != 1 {
			t.Errorf("%d tables: defaults in %v", count, tables)
		}
	}
}

// TestManySteps sends more than one datagram, with failures in the midst of
// each: every answer belongs to its own step.
func TestManySteps(t *testing.T) {
	c := namespace(t)
	build(t, c)
	var steps []policy.Step
	for i := range 3*batchSize + 1 {
		r := policy.Rule{Priority: uint32(1000 + i), Action: policy.Unreachable, Protocol: policy.Protocol}
		if i%3 == 1 {
			r.Action, r.Table = policy.Goto, 5 // backwards: refused
		}
		steps = append(steps, policy.Step{Op: policy.Add, Rule: r})
	}
	for i, err := range c.Apply(steps) {
		if refused := i%3 == 1; refused != (err != nil) || refused && !strings.HasPrefix(err.Error(), steps[i].String()+": ") {
			t.Errorf("%s: %v", steps[i], err)
		}
	}
}

// TestFullFeed: of more routes through one device than are kept the destinations
// are known all the same, in the order in which the kernel lists them.
func TestFullFeed(t *testing.T) {
	c := namespace(t)
	build(t, c)
	var steps []policy.Step
	const many = policy.ManyRanges + 2000
	for i := range uint32(many) {
		four := netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i)}), 24) // one range
		six := netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, byte(i >> 8), byte(i), 1}), 56)
		for _, dst := range []netip.Prefix{four, six} {
			r := policy.Route{Family: fwmark.FamilyOf(dst.Addr()), Table: policy.TableMain, Dst: dst, Type: policy.Unicast, Device: "dm0", Protocol: 4}
			steps = append(steps, policy.Step{Op: policy.Add, IsRoute: true, Route: r})
		}
	}
	for _, err := range c.Apply(steps) {
		must(t, err)
	}
	f, err := c.Facts()
	must(t, err)
	if len(f.Feeds) != 2 || len(f.Routes) >= 2*many {
		t.Errorf("%d feeds, %d routes", len(f.Feeds), len(f.Routes))
	}
	reach := policy.Reach(f, nil)
	last := steps[2*many-2].Route.Dst.Addr()
	if four := reach[fwmark.IPv4]; len(four) > 20 || !slices.ContainsFunc(four, func(p netip.Prefix) bool { return p.Contains(last) }) {
		t.Errorf("IPv4: %v, want %s in a few prefixes", four, last)
	}
	if n := len(reach[fwmark.IPv6]); n != policy.ManyRanges+1 {
		t.Errorf("IPv6: %d ranges", n)
	}
}

// TestDeviceRoutes reads the routes through a device of tables that nothing was
// read of.
func TestDeviceRoutes(t *testing.T) {
	c := namespace(t)
	build(t, c)
	gw := netip.MustParseAddr("192.0.2.1")
	four, six := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	wanted := []policy.Route{
		{Table: 500, Dst: four, Type: policy.Unicast, Gateway: gw, Device: "dm0", Protocol: 16, OnLink: true},
		{Family: fwmark.IPv6, Table: 3000000000, Dst: six, Type: policy.Unicast, Metric: 1024, Gateway: netip.MustParseAddr("fe80::1"), Device: "dm0", Protocol: 16},
	}
	for _, r := range append([]policy.Route{
		{Table: policy.TableMain, Dst: four, Type: policy.Unicast, Gateway: gw, Device: "dm0", Protocol: 3, OnLink: true},
		{Table: 501, Dst: four, Type: policy.Unicast, Device: "dm1", Protocol: 3},
		{Table: 502, Dst: four, Type: policy.Unicast, Device: "dm0", Protocol: policy.Protocol},
		{Table: 503, Dst: four, Type: policy.UnreachableRoute, Protocol: 3},
		{Table: 504, Dst: four, Type: policy.Unicast, Device: "dm0", Protocol: 3},
	}, wanted...) {
		must(t, apply(c, policy.Step{Op: policy.Add, IsRoute: true, Route: r}))
	}
	must(t, apply(c, policy.Step{Op: policy.Add, Rule: policy.Rule{Priority: 7, Action: policy.Lookup, Table: 504}}))
	f, err := c.Facts()
	must(t, err)
	before := len(f.Routes)
	must(t, c.ReadDeviceRoutes(&f, []string{"dm0", "none"}))
	if got := f.Routes[before:]; !slices.Equal(got, wanted) {
		t.Errorf("routes %v, want %v", got, wanted)
	}
}
