package policy

import (
	"fmt"
	"net/netip"
	"slices"

	"wg-multihome/fwmark"
)

// Wanted is the outcome of Want.
type Wanted struct {
	State        // what should stand
	Have   State // what stands: ours, and the original shell script's rules, which ours are to replace
	Fronts []Front
	Served []Served // addresses that are left to rules of others
	Errs   []error

	// Destinations says whose destinations are, as rules and routes have it.
	Destinations *Destinations

	// Away are the devices that lead away.
	Away map[string]bool

	// OtherGroups are the links that lead away and to which others have given a
	// group: the second lock alone holds what main has through them.
	OtherGroups []LinkGroup
	// Unasked are foreign rules that stand behind pairs of ours, so that they are
	// never asked for packets of an uplink's address.
	Unasked []Rule

	lookups []Rule // those of marks, among the rules
}

// Want decides which rules and routes should stand for these uplinks and pins.
//
// B is the family's first priority (see places), and all rules of one role have
// the same priority:
//
//	B+0  from all fwmark M lookup main suppress_prefixlength 0 suppress_ifgroup G
//	B+1  from all fwmark M lookup TABLE
//	B+2  from all fwmark M unreachable
//	P+0  from ADDR lookup main suppress_prefixlength 0 suppress_ifgroup G
//	P+1  from ADDR lookup TABLE
//
// P is B+3 where nothing moves them. The guards, B+0 and B+2, stand in both
// families as long as the pin is there. Where others have no look-up of the local
// table in front of ours, one for each mark stands at B-1, and one for each address
// at P-1.
//
// G is the group of the links that lead away from LANs (see Away). What main has
// through them TABLE has as copies, as far as it is the uplink's own or everybody's
// (see Destinations).
//
// A priority of 0 means that the configured one could not be read: the rules
// stay where they start now.
func Want(f Facts, uplinks []fwmark.Uplink, pins []fwmark.Pin, priority uint32) Wanted {
	w := wanter{
		facts: f, uplinks: uplinks, pins: pins, away: Away(f, uplinks), tables: tablesEverywhere{facts: f, wanted: map[tableKey]bool{}},
		connected: connectedRoutes(f), scriptRules: map[Rule]bool{}, served: map[netip.Addr]bool{},
	}
	w.out.Away = w.away
	w.findServed()
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
	w.copies()
	w.have()
	w.linkGroups()
	return w.out
}

type wanter struct {
	facts       Facts
	uplinks     []fwmark.Uplink
	pins        []fwmark.Pin
	away        map[string]bool // see Away
	passed      []Rule          // see captureCheck.passed
	tables      tablesEverywhere
	connected   []*Route
	scriptRules map[Rule]bool
	served      map[netip.Addr]bool // see findServed
	out         Wanted
}

func (w *wanter) family(family fwmark.Family, priority uint32) {
	w.routes(family)
	c := captureCheck{tables: &w.tables, away: w.away, scriptRules: w.scriptRules}
	for _, p := range w.pins {
		c.marks = append(c.marks, p.Mark)
	}
	var addrs []netip.Addr
	for _, u := range w.uplinks {
		for _, a := range routableAddrs(u, family) {
			if !w.served[a] {
				addrs = append(addrs, a)
			}
		}
	}
	c.addrs = slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)
	configured := places{priority, priority + pairsAt}
	if priority == 0 {
		configured = standingPlaces(w.facts.Rules, family)
	}
	at, front, errs := c.places(w.facts.Rules, family, configured)
	if front != nil {
		w.out.Fronts = append(w.out.Fronts, *front)
	}
	w.out.Errs = append(w.out.Errs, errs...)
	w.out.Unasked = append(w.out.Unasked, c.unasked(w.facts.Rules, family, at.pairs)...)
	w.passed = append(w.passed, c.passed(w.facts.Rules, family, at.blocks, configured.blocks)...)
	w.blocks(family, at.blocks)
	w.pairs(family, at.pairs, addrs)
}

// localRule returns the look-up of the local table that has to stand right in
// front of rules from a priority on; none where a foreign one does, as is normal.
// A VRF moves that behind ours (l3mdev, 32765).
func (w *wanter) localRule(family fwmark.Family, first uint32) (r Rule, needed bool) {
	for i := range w.facts.Rules {
		r := &w.facts.Rules[i]
		if r.Family == family && !r.Ours() && r.isLocal() && r.plain() && r.Mark.Mask == 0 && !r.From.IsValid() && r.Priority < first {
			return Rule{}, false
		}
	}
	if first <= 1 {
		w.out.Errs = append(w.out.Errs, fmt.Errorf("no room for the look-up of the IPv%s local table in front of priority %d: see `priority` in `wg-multihome help configuration`", family, first))
		return Rule{}, false
	}
	return Rule{Family: family, Priority: first - 1, Action: Lookup, Table: TableLocal, Protocol: Protocol}, true
}

func (w *wanter) blocks(family fwmark.Family, first uint32) {
	if len(w.pins) == 0 {
		return
	}
	local, needed := w.localRule(family, first)
	group := groupOf(w.facts)
	tables := map[string]uint32{} // of uplinks
	for _, u := range w.uplinks {
		if u.Routed(family) {
			tables[u.Name] = MarkTable(u, family)
		}
	}
	for _, p := range w.pins {
		w.out.Rules = append(w.out.Rules, suppressRule(family, first, p.Mark, group), unreachableRule(family, first+2, p.Mark))
		if needed {
			local.Mark = p.Mark
			w.out.Rules = append(w.out.Rules, local)
		}
		if table, routed := tables[p.Uplink]; routed {
			r := lookupRule(family, first+1, p.Mark, table)
			w.out.Rules, w.out.lookups = append(w.out.Rules, r), append(w.out.lookups, r)
		}
	}
}

func (w *wanter) pairs(family fwmark.Family, first uint32, addrs []netip.Addr) {
	if len(addrs) == 0 {
		return
	}
	local, needed := w.localRule(family, first)
	group := groupOf(w.facts)
	w.out.Rules = slices.Grow(w.out.Rules, 2*len(addrs))
	for _, a := range addrs {
		pair := pairRules(first, a, group)
		w.out.Rules = append(w.out.Rules, pair[:]...)
		if needed {
			local.From = pair[0].From
			w.out.Rules = append(w.out.Rules, local)
		}
	}
}

func (w *wanter) routes(family fwmark.Family) {
	for _, u := range w.uplinks {
		addrs := routableAddrs(u, family)
		w.out.Routes = slices.Grow(w.out.Routes, len(addrs))
		for _, a := range addrs {
			if w.served[a] && !(a == u.Address[family] && w.pinned(u.Name)) {
				continue
			}
			w.out.Routes = append(w.out.Routes, w.route(u, a, TableOf(a)))
			// A foreign rule that looks up this table captures as soon as
			// the route is there, so it must not be in front of ours then.
			w.tables.wanted[tableKey{family, TableOf(a)}] = true
		}
		if u.Routed(family) && u.Twin[family] && w.pinned(u.Name) {
			w.out.Routes = append(w.out.Routes, w.route(u, u.Address[family], MarkTable(u, family)))
		}
	}
}

// pinned reports whether a mark leaves by an uplink.
func (w *wanter) pinned(uplink string) bool {
	return slices.ContainsFunc(w.pins, func(p fwmark.Pin) bool { return p.Uplink == uplink })
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
func (w *wanter) route(u fwmark.Uplink, addr netip.Addr, table uint32) Route {
	family, gw := fwmark.FamilyOf(addr), u.GatewayOf(addr)
	r := Route{
		Family: family, Table: table, Dst: netip.PrefixFrom(family.Unspecified(), 0), Type: Unicast, Device: u.Name,
		Src: addr, Metric: metric(family), Protocol: Protocol, MTU: u.MTU[family], AdvMSS: u.AdvMSS[family],
	}
	if !gw.IsUnspecified() {
		r.Gateway, r.OnLink = gw, w.needsOnLink(u.Name, gw)
	}
	return r
}

// copies gives the tables of uplinks what main and foreign tables have of theirs.
func (w *wanter) copies() {
	d := destinationsOf(w.facts, w.uplinks, w.away, w.passed)
	w.out.Destinations = d
	defaults := len(w.out.Routes)
	copied := map[hop][]Route{}
	for i := range defaults {
		r := w.out.Routes[i]
		if k := (deviceKey{r.Family, r.Device}); !d.rest[k].Dst.IsValid() {
			d.rest[k] = r
		}
		k := hop{r.Family, r.Device, r.Gateway}
		if _, seen := copied[k]; !seen {
			copied[k] = w.copiesBeside(&r)
		}
		for _, c := range copied[k] {
			c.Table = r.Table
			w.out.Routes = append(w.out.Routes, c)
		}
	}
}

// hop is where a route leads.
type hop struct {
	family  fwmark.Family
	device  string
	gateway netip.Addr
}

// copiesBeside returns what a table holds beside its default.
func (w *wanter) copiesBeside(fallback *Route) []Route {
	list := needed(w.out.Destinations.Copies(fallback.Device, fallback.Family), fallback)
	for i := range list {
		c := &list[i]
		c.OnLink = c.Gateway.IsValid() && w.needsOnLink(c.Device, c.Gateway)
	}
	return list
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
// adds their look-up, or the default that their look-up leads to.
func (w Wanted) Reroutes(s Step) []fwmark.Mark {
	if s.Op != Add {
		return nil
	}
	if s.IsRoute && !s.Route.isDefault() {
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
