package policy

import (
	"net/netip"
	"slices"

	"wg-multihome/fwmark"
)

// Wanted is the outcome of Want.
type Wanted struct {
	State        // what should stand
	Have   State // what stands: ours, and the original shell script's rules, which ours are to replace
	Fronts []Front
	Errs   []error

	lookups []Rule // those of marks, among the rules
}

// Want decides which rules and routes should stand for these uplinks and pins.
//
// B is the family's first priority (see firstPriority), and all rules of one
// role have the same priority:
//
//	B+0  from all fwmark M lookup main suppress_prefixlength 0
//	B+1  from all fwmark M lookup TABLE
//	B+2  from all fwmark M unreachable
//	B+3  from ADDR lookup main suppress_prefixlength 0
//	B+4  from ADDR lookup TABLE
//
// The guards, B+0 and B+2, stand in both families as long as the pin is there.
// A priority of 0 means that the configured one could not be read: the rules
// stay where they start now.
func Want(f Facts, uplinks []fwmark.Uplink, pins []fwmark.Pin, priority uint32) Wanted {
	w := wanter{
		facts: f, uplinks: uplinks, pins: pins, tables: tablesEverywhere{facts: f, wanted: map[tableKey]bool{}},
		connected: connectedRoutes(f), scriptRules: map[Rule]bool{},
	}
	w.findScriptRules()
	addrs := 0
	for _, u := range uplinks {
		addrs += len(u.Addrs)
	}
	w.out.Rules = make([]Rule, 0, 2*addrs+len(fwmark.Families)*3*len(pins))
	w.out.Routes = make([]Route, 0, addrs)
	for _, family := range fwmark.Families {
		if f.Families[family] {
			w.family(family, priority)
		}
	}
	w.have()
	return w.out
}

type wanter struct {
	facts       Facts
	uplinks     []fwmark.Uplink
	pins        []fwmark.Pin
	tables      tablesEverywhere
	connected   []*Route
	scriptRules map[Rule]bool
	out         Wanted
}

func (w *wanter) family(family fwmark.Family, priority uint32) {
	w.routes(family)
	c := captureCheck{tables: &w.tables, scriptRules: w.scriptRules}
	for _, p := range w.pins {
		c.marks = append(c.marks, p.Mark)
	}
	var addrs []netip.Addr
	for _, u := range w.uplinks {
		addrs = append(addrs, routableAddrs(u, family)...)
	}
	c.addrs = slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)
	if priority == 0 {
		priority = standingPriority(w.facts.Rules, family)
	}
	first, front, err := c.firstPriority(w.facts.Rules, family, priority)
	if front != nil {
		w.out.Fronts = append(w.out.Fronts, *front)
	}
	if err != nil {
		w.out.Errs = append(w.out.Errs, err)
	}
	var length uint32
	if splitMain(w.facts, family) {
		length = 1
	}
	w.blocks(family, first, length)
	w.pairs(first, length, addrs)
}

// splitMain reports whether main has both /1 routes, which are not suppressed by
// suppress_prefixlength 0.
func splitMain(f Facts, family fwmark.Family) bool {
	var low, high bool
	for i := range f.Routes {
		if r := &f.Routes[i]; r.Family == family && r.Table == TableMain && r.Type == Unicast && r.Dst.Bits() == 1 {
			low = low || r.Dst.Addr().IsUnspecified()
			high = high || !r.Dst.Addr().IsUnspecified()
		}
	}
	return low && high
}

func (w *wanter) blocks(family fwmark.Family, first, length uint32) {
	address := map[string]netip.Addr{}
	for _, u := range w.uplinks {
		if u.Routable(family) {
			address[u.Name] = u.Address[family]
		}
	}
	for _, p := range w.pins {
		w.out.Rules = append(w.out.Rules, suppressRule(family, first, p.Mark, length), unreachableRule(family, first+2, p.Mark))
		if a := address[p.Uplink]; a.IsValid() {
			r := lookupRule(family, first+1, p.Mark, TableOf(a))
			w.out.Rules, w.out.lookups = append(w.out.Rules, r), append(w.out.lookups, r)
		}
	}
}

func (w *wanter) pairs(first, length uint32, addrs []netip.Addr) {
	w.out.Rules = slices.Grow(w.out.Rules, 2*len(addrs))
	for _, a := range addrs {
		pair := pairRules(first+3, a, length)
		w.out.Rules = append(w.out.Rules, pair[:]...)
	}
}

func (w *wanter) routes(family fwmark.Family) {
	for _, u := range w.uplinks {
		addrs := routableAddrs(u, family)
		w.out.Routes = slices.Grow(w.out.Routes, len(addrs))
		for _, a := range addrs {
			w.out.Routes = append(w.out.Routes, w.route(u, a))
			// A foreign rule that looks up this table captures as soon as
			// the route is there, so it must not be in front of ours then.
			w.tables.wanted[tableKey{family, TableOf(a)}] = true
		}
	}
}

// routableAddrs returns the addresses of an uplink that have a table.
func routableAddrs(u fwmark.Uplink, family fwmark.Family) []netip.Addr {
	if !u.Routable(family) {
		return nil
	}
	return filter(u.Addrs, func(a *netip.Addr) bool {
		return fwmark.FamilyOf(*a) == family && u.GatewayOf(*a).IsValid()
	})
}

// route returns the default of an address's table.
func (w *wanter) route(u fwmark.Uplink, addr netip.Addr) Route {
	family, gw := fwmark.FamilyOf(addr), u.GatewayOf(addr)
	r := Route{
		Family: family, Table: TableOf(addr), Dst: netip.PrefixFrom(family.Unspecified(), 0), Type: Unicast, Device: u.Name,
		Src: addr, Metric: metric(family), Protocol: Protocol, MTU: u.MTU[family], AdvMSS: u.AdvMSS[family],
	}
	if !gw.IsUnspecified() {
		r.Gateway, r.OnLink = gw, w.needsOnLink(u.Name, gw)
	}
	return r
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
	return !slices.ContainsFunc(w.connected, func(r *Route) bool { return r.Device == device && r.Dst.Contains(gw) }) &&
		!slices.ContainsFunc(w.facts.Feeds, func(f *Feed) bool {
			return f.Table == TableMain && f.Device == device && f.connected.contains(gw)
		})
}

func connectedRoutes(f Facts) []*Route {
	var connected []*Route
	for i := range f.Routes {
		if r := &f.Routes[i]; r.Table == TableMain && r.connected() {
			connected = append(connected, r)
		}
	}
	return connected
}

// have collects what stands of ours, and the script's rules.
func (w *wanter) have() {
	w.out.Have.Rules = filter(w.facts.Rules, func(r *Rule) bool { return r.Ours() || w.scriptRules[*r] })
	w.out.Have.Routes = filter(w.facts.Routes, func(r *Route) bool { return r.Ours() })
}

// filter returns those elements that it is asked for, in a list as long as they
// take: of many addresses one that grows takes thrice that.
func filter[T any](list []T, is func(*T) bool) []T {
	n := 0
	for i := range list {
		if is(&list[i]) {
			n++
		}
	}
	filtered := make([]T, 0, n)
	for i := range list {
		if is(&list[i]) {
			filtered = append(filtered, list[i])
		}
	}
	return filtered
}

// Reroutes returns the wanted marks whose packets a step gives another way: it
// adds their look-up, or the route that their look-up leads to.
func (w Wanted) Reroutes(s Step) []fwmark.Mark {
	if s.Op != Add {
		return nil
	}
	if !s.IsRoute {
		if s.Rule.marked() && s.Rule.isLookup() {
			return []fwmark.Mark{s.Rule.Mark}
		}
		return nil
	}
	var marks []fwmark.Mark
	for _, r := range w.lookups {
		if r.Family == s.Route.Family && r.Table == s.Route.Table {
			marks = append(marks, r.Mark)
		}
	}
	return marks
}
