package policy

import (
	"net/netip"
	"slices"

	"wg-multihome/fwmark"
)

// State is a set of rules and routes: what we want, or what stands of it.
type State struct {
	Rules  []Rule
	Routes []Route
}

// Wanted is the outcome of Want.
type Wanted struct {
	State        // what should stand
	Have   State // what stands: ours, and of the original shell script what is to be taken over
	Fronts []Front
	Errs   []error
}

// Want decides which rules and routes should stand for these uplinks and pins.
//
// With B the base of a family (Facts' foreign rules in front decide it, see
// capture.base), and the same preference for all rules of one role:
//
//	B+0  from all fwmark M lookup main suppress_prefixlength 0
//	B+1  from all fwmark M lookup TABLE
//	B+2  from all fwmark M unreachable
//	B+3  from ADDR lookup main suppress_prefixlength 0
//	B+4  from ADDR lookup TABLE
//
// The guards, B+0 and B+2, stand in both families as long as the pin is there.
// priority 0 stands for one that could not be read: the rules stay where they
// start now.
func Want(f Facts, uplinks []fwmark.Uplink, pins []fwmark.Pin, priority uint32) Wanted {
	w := wanter{facts: f, uplinks: uplinks, pins: pins, tables: defaults(f), taken: map[Rule]bool{}}
	w.findLegacy()
	for _, family := range fwmark.Families {
		if f.Families[family] {
			w.family(family, priority)
		}
	}
	w.have()
	return w.out
}

type wanter struct {
	facts   Facts
	uplinks []fwmark.Uplink
	pins    []fwmark.Pin
	tables  map[tableKey]tableDefaults
	taken   map[Rule]bool
	out     Wanted
}

func (w *wanter) family(family fwmark.Family, priority uint32) {
	w.routes(family)
	c := capture{tables: w.tables, taken: w.taken}
	for _, p := range w.pins {
		c.marks = append(c.marks, p.Mark)
	}
	var addrs []netip.Addr
	for _, u := range w.uplinks {
		if u.Routable(family) {
			for _, a := range u.Addrs {
				if fwmark.FamilyOf(a) == family {
					addrs = append(addrs, a)
				}
			}
		}
	}
	c.addrs = slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)
	if priority == 0 {
		priority = w.standingBase(family)
	}
	base, front, err := c.base(w.facts.Rules, family, priority)
	if front != nil {
		w.out.Fronts = append(w.out.Fronts, *front)
	}
	if err != nil {
		w.out.Errs = append(w.out.Errs, err)
	}
	var length uint32
	if w.tables[tableKey{family, TableMain}].halves.both() {
		length = 1
	}
	w.blocks(family, base, length)
	w.pairs(base, length, addrs)
}

// standingBase returns where our rules start now.
func (w *wanter) standingBase(family fwmark.Family) uint32 {
	for _, r := range w.facts.Rules {
		if r.Family == family && r.Ours() {
			switch {
			case r.sourced() && r.isSuppress():
				return max(r.Priority, 4) - 3
			case r.marked() && r.isSuppress():
				return max(r.Priority, 1)
			}
		}
	}
	return DefaultPriority
}

func (w *wanter) blocks(family fwmark.Family, base, length uint32) {
	address := map[string]netip.Addr{}
	for _, u := range w.uplinks {
		if u.Routable(family) {
			address[u.Name] = u.Address[family]
		}
	}
	for _, p := range w.pins {
		w.out.Rules = append(w.out.Rules, suppressRule(family, base, p.Mark, length), unreachableRule(family, base+2, p.Mark))
		if a := address[p.Uplink]; a.IsValid() {
			w.out.Rules = append(w.out.Rules, lookupRule(family, base+1, p.Mark, TableOf(a)))
		}
	}
}

func (w *wanter) pairs(base, length uint32, addrs []netip.Addr) {
	for _, a := range addrs {
		pair := pairRules(base+3, a, length)
		w.out.Rules = append(w.out.Rules, pair[:]...)
	}
}

func (w *wanter) routes(family fwmark.Family) {
	for _, u := range w.uplinks {
		if !u.Routable(family) {
			continue
		}
		gw := u.Gateways[family]
		onlink := gw.IsValid() && !gw.IsUnspecified() && w.needsOnLink(u.Name, gw)
		if gw.IsUnspecified() {
			gw = netip.Addr{}
		}
		for _, a := range u.Addrs {
			if fwmark.FamilyOf(a) == family {
				w.out.Routes = append(w.out.Routes, Route{
					Family: family, Table: TableOf(a), Dst: netip.PrefixFrom(family.Unspecified(), 0), Type: Unicast,
					Gateway: gw, Device: u.Name, Src: a, Metric: metric(family), Protocol: Protocol, OnLink: onlink,
				})
				// A foreign rule that looks up this table captures as soon as
				// it has its route, and must not be in front of us then.
				k := tableKey{family, TableOf(a)}
				t := w.tables[k]
				t.def = true
				w.tables[k] = t
			}
		}
	}
}

// metric returns the metric of our routes. IPv6 has no 0, it is read as
// IP6_RT_PRIO_USER, 1024 (linux/ipv6_route.h).
func metric(family fwmark.Family) uint32 {
	if family == fwmark.IPv6 {
		return 1024
	}
	return 0
}

// needsOnLink reports whether the kernel would refuse the gateway as
// unreachable: no connected route of main covers it (an address with
// noprefixroute has none). An IPv6 gateway is looked up through the rules,
// foreign ones in front included, so there it is always so, but for a
// link-local one.
func (w *wanter) needsOnLink(device string, gw netip.Addr) bool {
	if gw.Is6() {
		return !gw.IsLinkLocalUnicast()
	}
	for _, r := range w.facts.Routes {
		if r.Table == TableMain && r.Device == device && r.Type == Unicast && !r.Gateway.IsValid() && r.Hop == 0 && !r.isDefault() && r.Dst.Contains(gw) {
			return false
		}
	}
	return true
}

// have collects what stands of ours, and what is to be taken over.
func (w *wanter) have() {
	for _, r := range w.facts.Rules {
		if r.Ours() || w.taken[r] {
			w.out.Have.Rules = append(w.out.Have.Rules, r)
		}
	}
	for _, r := range w.facts.Routes {
		if r.Ours() {
			w.out.Have.Routes = append(w.out.Have.Routes, r)
		}
	}
}
