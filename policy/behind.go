package policy

import (
	"net/netip"

	"go4.org/netipx"

	"wg-multihome/fwmark"
)

// Behind returns what lies behind each device, for pinned packets too:
// destinations of routes of /2 and longer in main and in the tables that
// foreign rules look up, the `to` of a foreign rule whose table leads it
// through the device, and the device's broadcast addresses: the given one, and
// the last of an address's network, which the kernel takes for one in any case
// (fib_add_ifaddr).
func Behind(f Facts) map[string][]netip.Prefix {
	b := behind{tables: map[tableKey]bool{}, routes: map[destination][]string{}, out: map[string][]netip.Prefix{}}
	for _, family := range fwmark.Families {
		b.tables[tableKey{family, TableMain}] = true
	}
	for _, r := range f.Rules {
		if !r.Ours() && r.Action == Lookup {
			b.tables[tableKey{r.Family, r.Table}] = true
		}
	}
	for _, r := range f.Routes {
		b.route(r)
	}
	for _, r := range f.Rules {
		b.rule(r)
	}
	for _, a := range f.Addrs {
		if a.Broadcast.IsValid() {
			b.add(a.Device, netip.PrefixFrom(a.Broadcast, a.Broadcast.BitLen()))
		}
		const pointToPoint = 31 // RFC 3021: from here on there is none
		if p := a.Prefix; p.Addr().Is4() && p.Bits() < pointToPoint {
			last := netipx.PrefixLastIP(p)
			b.add(a.Device, netip.PrefixFrom(last, last.BitLen()))
		}
	}
	return b.out
}

// destination is a prefix in a table.
type destination struct {
	tableKey
	prefix netip.Prefix
}

type behind struct {
	tables map[tableKey]bool // those that count
	routes map[destination][]string
	out    map[string][]netip.Prefix
}

func (b *behind) add(device string, p netip.Prefix) { b.out[device] = append(b.out[device], p) }

func (b *behind) route(r Route) {
	k := tableKey{r.Family, r.Table}
	if !b.tables[k] || r.Type != Unicast || r.Device == "" {
		return
	}
	d := destination{k, r.Dst}
	b.routes[d] = append(b.routes[d], r.Device)
	if r.Dst.Bits() >= 2 {
		b.add(r.Device, r.Dst)
	}
}

// rule adds the `to` of a foreign rule to every device that its table leads it
// through by a route that the rule does not suppress. Longer routes of that
// table count by themselves.
func (b *behind) rule(r Rule) {
	if r.Ours() || r.Invert || r.Action != Lookup || !r.To.IsValid() || r.To.Bits() < 2 {
		return
	}
	for bits := 0; bits <= r.To.Bits(); bits++ {
		if r.Suppresses && bits <= int(r.Suppress) {
			continue
		}
		d := destination{tableKey{r.Family, r.Table}, netip.PrefixFrom(r.To.Addr(), bits).Masked()}
		for _, device := range b.routes[d] {
			b.add(device, r.To)
		}
	}
}

// Reach returns, by family, the destinations of main's routes of /2 and
// longer: what is reached without a default.
func Reach(f Facts) [2][]netip.Prefix {
	var reach [2][]netip.Prefix
	for _, r := range f.Routes {
		if r.Table == TableMain && r.Type == Unicast && r.Dst.Bits() >= 2 {
			reach[r.Family] = append(reach[r.Family], r.Dst)
		}
	}
	return reach
}
