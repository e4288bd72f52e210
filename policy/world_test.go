package policy_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"pgregory.net/rapid"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/policy/sim"
)

// world is a host: its kernel, its configuration and its leases. Marks and
// addresses are few, so that they meet.
type world struct {
	kernel   *sim.Kernel
	intents  map[string]fwmark.Intent // by uplink
	broken   bool
	leases   map[string]policy.Lease
	priority uint32
	group    uint32

	tunnelMark uint32 // that of wg0

	// carried are the marks that devices carry, each with the uplink that its
	// packets were last promised.
	carried map[fwmark.Mark]string
}

var (
	uplinks  = []string{"up0", "up1", "up2"}
	tunnels  = []string{"tun0", "wg0"}
	networks = [...][3]netip.Prefix{
		{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("1.2.3.0/24")},
		{netip.MustParsePrefix("2001:db8:1::/64"), netip.MustParsePrefix("2001:db8:2::/64"), netip.MustParsePrefix("2001:db8:3::/64")},
	}
	// Public ones: one in each half of the address space, and in no other prefix
	// here but short ones; one on-link at uplinks.
	destinations = [...][3]netip.Addr{
		{netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("192.0.2.77")},
		{netip.MustParseAddr("2a00::9"), netip.MustParseAddr("9000::9"), netip.MustParseAddr("2001:db8:1::77")},
	}
	// What leads everywhere, but for a default.
	shortRoutes = [...][]netip.Prefix{
		prefixes("0.0.0.0/1", "128.0.0.0/1", "0.0.0.0/2", "128.0.0.0/2", "9.0.0.0/8", "203.0.113.9/32", "192.0.2.64/26"),
		prefixes("::/1", "8000::/1", "2000::/3", "2a00::/12", "2a00::/32", "2001:db8:1::77/128"),
	}
	splitDefaults = [...][2]netip.Prefix{
		{netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("128.0.0.0/1")},
		{netip.MustParsePrefix("::/1"), netip.MustParsePrefix("8000::/1")},
	}
	marks = []fwmark.Mark{
		{Value: 0x2005, Mask: fwmark.FullMask}, {Value: 0x2006, Mask: fwmark.FullMask}, {Value: 0x3000, Mask: 0xff00},
		{Value: 0x2000, Mask: 0xff00}, {Value: 0x105, Mask: fwmark.FullMask}, {Value: 0x100, Mask: 0xf00},
	}
	// Tables of others.
	foreignTables = []uint32{51820, 700, 701}
)

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

func defaultOf(f fwmark.Family) netip.Prefix { return netip.PrefixFrom(f.Unspecified(), 0) }

func newWorld() *world {
	w := &world{
		kernel: sim.New(), intents: map[string]fwmark.Intent{}, leases: map[string]policy.Lease{},
		priority: policy.DefaultPriority, carried: map[fwmark.Mark]string{},
	}
	for _, name := range append(slices.Clone(uplinks), tunnels...) {
		w.kernel.Links = append(w.kernel.Links, policy.Link{Name: name, Up: true, WireGuard: name == "wg0", PointToPoint: name == "tun0" || name == "up2"})
	}
	return w
}

func (w *world) clone() *world {
	c := *w
	c.kernel = w.kernel.Clone()
	c.intents, c.leases, c.carried = maps.Clone(w.intents), maps.Clone(w.leases), maps.Clone(w.carried)
	return &c
}

// view is what one observation of the host shows, as in the pipeline.
type view struct {
	facts   policy.Facts
	broken  bool // the configuration has an error, by itself or against the uplinks
	uplinks []fwmark.Uplink
	shared  []error // addresses that several uplinks have
	pins    []fwmark.Pin
	policy.Wanted
}

func (w *world) observe(scriptRules []policy.Rule) view {
	v := view{facts: w.kernel.Facts()}
	v.facts.ScriptRules, v.facts.Group = scriptRules, w.group
	for _, name := range slices.Sorted(maps.Keys(w.leases)) {
		v.facts.Leases = append(v.facts.Leases, w.leases[name])
	}
	var intents []fwmark.Intent
	for _, name := range slices.Sorted(maps.Keys(w.intents)) {
		intents = append(intents, w.intents[name])
	}
	var problems []fwmark.Problem
	if w.broken {
		problems = append(problems, fwmark.Problem{Text: "a typo"})
	}
	full := policy.Tunnels(v.facts, map[string]uint32{"wg0": w.tunnelMark})
	for _, broken := range []bool{w.broken, true} {
		v.broken = broken
		v.uplinks, v.shared = policy.Uplinks(v.facts, intents, broken)
		tables := map[uint32]netip.Addr{}
		for _, u := range v.uplinks {
			for _, a := range u.Addrs {
				tables[policy.TableOf(a)] = a
			}
		}
		var found []fwmark.Problem
		v.pins, found = fwmark.Resolve(intents, problems, policy.Standing(v.facts), tables, full)
		if broken || len(found) == 0 {
			break
		}
	}
	v.Wanted = policy.Want(v.facts, v.uplinks, v.pins, w.priority)
	return v
}

func anyAddress(t *rapid.T, f fwmark.Family) netip.Prefix {
	network := rapid.SampledFrom(networks[f][:]).Draw(t, "network")
	b := network.Addr().AsSlice()
	b[len(b)-1] = byte(rapid.IntRange(10, 11).Draw(t, "host"))
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, network.Bits())
}

func anyGateway(t *rapid.T, f fwmark.Family) netip.Addr {
	if f == fwmark.IPv6 && rapid.Bool().Draw(t, "link-local") {
		return netip.MustParseAddr("fe80::1")
	}
	return rapid.SampledFrom(networks[f][:]).Draw(t, "network").Addr().Next()
}

func anyFamily(t *rapid.T) fwmark.Family {
	return rapid.SampledFrom(fwmark.Families[:]).Draw(t, "family")
}

func anyLink(t *rapid.T) string { return rapid.SampledFrom(uplinks).Draw(t, "uplink") }

// foreignRoute is a default, a half or a longer route of others, with a
// gateway or without.
func foreignRoute(t *rapid.T, f fwmark.Family, table uint32, device string) policy.Route {
	r := policy.Route{Family: f, Table: table, Type: policy.Unicast, Device: device, Protocol: 3, OnLink: true}
	lan := netip.MustParsePrefix("10.9.0.0/16")
	if f == fwmark.IPv6 {
		r.Metric, lan = 1024, netip.MustParsePrefix("2001:db8:9::/48")
	}
	r.Dst = rapid.SampledFrom(append([]netip.Prefix{defaultOf(f), defaultOf(f), lan}, shortRoutes[f]...)).Draw(t, "destination")
	if r.Dst.Bits() == 0 && rapid.IntRange(0, 9).Draw(t, "refusing") == 0 {
		return policy.Route{Family: f, Table: table, Dst: r.Dst, Type: policy.UnreachableRoute, Protocol: 3, Metric: 4000}
	}
	if rapid.Bool().Draw(t, "gateway") {
		r.Gateway = anyGateway(t, f)
	}
	r.Metric += uint32(slices.Index(uplinks, device)+1) * 100
	return r
}

// foreignRule is one that others may have: a full tunnel's, a harmless one, or
// anything of the selectors that we know, near our own rules or far.
func foreignRule(t *rapid.T, f fwmark.Family, near uint32) policy.Rule {
	table := rapid.SampledFrom(append(slices.Clone(foreignTables), policy.TableMain)).Draw(t, "table")
	r := policy.Rule{Family: f, Action: policy.Lookup, Table: table, Protocol: rapid.SampledFrom([]uint8{0, 3, 4, 77}).Draw(t, "protocol")}
	if r.Protocol == policy.Protocol {
		r.Opaque = true // ours by number alone
	}
	r.Priority = rapid.OneOf(
		rapid.Map(rapid.IntRange(-12, 12), func(d int) uint32 { return uint32(max(1, int(near)+d)) }),
		rapid.Uint32Range(1, 12), rapid.Uint32Range(100, 33000),
	).Draw(t, "priority")
	switch rapid.IntRange(0, 8).Draw(t, "kind of rule") {
	case 0, 1: // wg-quick
		r.Mark, r.Invert = fwmark.Mark{Value: 0xca6c, Mask: fwmark.FullMask}, true
	case 2:
		r.Suppresses, r.Suppress = true, uint32(rapid.IntRange(0, 1).Draw(t, "suppressed"))
	case 3:
		r.From = rapid.SampledFrom(networks[f][:]).Draw(t, "from")
	case 4:
		r.Mark = rapid.SampledFrom(marks).Draw(t, "mark")
	case 5:
		r.Action, r.Table = policy.Goto, rapid.SampledFrom([]uint32{32766, r.Priority + 7}).Draw(t, "target")
		if r.Table <= r.Priority {
			r.Table = r.Priority + 1
		}
	case 6:
		r.To = rapid.SampledFrom([]netip.Prefix{splitDefaults[f][0], netip.MustParsePrefix(fmt.Sprintf("%s/%d", networks[f][0].Addr(), networks[f][0].Bits()))}).Draw(t, "to")
	case 7:
		r.Action, r.Table = rapid.SampledFrom([]policy.Action{policy.Unreachable, policy.Nop, policy.Prohibit}).Draw(t, "action"), 0
	}
	return r
}
