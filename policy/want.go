package policy

import (
	"net/netip"

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
	for _, u := range w.uplinks {
		if u.Routable(family) {
			for _, a := range u.Addrs {
				if fwmark.FamilyOf(a) == family {
					c.addrs = append(c.addrs, a)
				}
			}
		}
	}
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
	w.pairs(base, length, c.addrs)
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

// findLegacy recognises the exact objects of the original shell script: of a
// configured mark the three rules, whose look-up leads to a table of an
// address; of an uplink's address the pair. iproute2 gives rules protocol 0
// (newer ones may say boot, 3). What a mark of a broken configuration has
// stays as it is.
func (w *wanter) findLegacy() {
	marks := map[fwmark.Mark]bool{}
	for _, p := range w.pins {
		marks[p.Mark] = !p.Kept
	}
	addrs := map[netip.Addr]bool{}
	for _, u := range w.uplinks {
		for _, a := range u.Addrs {
			addrs[a] = u.Routable(fwmark.FamilyOf(a))
		}
	}
	type block struct {
		family fwmark.Family
		mark   fwmark.Mark
		addr   netip.Addr
	}
	key := func(r Rule) (block, bool) {
		switch {
		case r.Protocol != 0 && r.Protocol != protocolBoot:
		case r.marked() && marks[r.Mark]:
			return block{r.Family, r.Mark, netip.Addr{}}, true
		case r.sourced() && addrs[r.From.Addr()]:
			return block{r.Family, fwmark.Mark{}, r.From.Addr()}, true
		}
		return block{}, false
	}
	script := map[block]bool{}
	for _, r := range w.facts.Rules {
		if k, ok := key(r); ok && r.isLookup() {
			if k.addr.IsValid() && r.Table == TableOf(k.addr) || !k.addr.IsValid() && r.Table >= 1<<24 {
				script[k] = true
			}
		}
	}
	remembered := map[Rule]bool{}
	for _, r := range w.facts.Taken {
		remembered[r] = true
	}
	for _, r := range w.facts.Rules {
		k, ok := key(r)
		if !ok || !script[k] && !remembered[r] {
			continue
		}
		exact := r.isSuppress() && r.Suppress == 0 || r.isUnreachable() && !k.addr.IsValid() ||
			r.isLookup() && (r.Table == tableOrNone(k.addr) || !k.addr.IsValid() && r.Table >= 1<<24)
		if exact && !w.shadowed(r) {
			w.taken[r] = true
		}
	}
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

// shadowed reports whether deleting r could hit a stranger: a protocol of 0
// is a wildcard to the kernel, as is every selector that r does not have, and
// of several that match the first one goes (fib_nl_delrule).
func (w *wanter) shadowed(r Rule) bool {
	for _, o := range w.facts.Rules {
		if o == r {
			return false
		}
		if o.Family != r.Family || o.Priority != r.Priority || o.Ours() || w.taken[o] {
			continue
		}
		if o.Action == r.Action && o.Table == r.Table &&
			(r.Mark.Mask == 0 || o.Mark == r.Mark) && (!r.From.IsValid() || o.From == r.From) {
			return true
		}
	}
	return false
}

// tableOrNone returns the table of addr, and 0, which no rule looks up, for
// none.
func tableOrNone(addr netip.Addr) uint32 {
	if !addr.IsValid() {
		return 0
	}
	return TableOf(addr)
}
