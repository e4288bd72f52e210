package policy

import (
	"cmp"
	"net/netip"
	"slices"

	"wg-multihome/fwmark"
)

// gateway is one that is known for an uplink.
type gateway struct {
	addr netip.Addr // unspecified: the link has none, its default has no `via`
	only netip.Addr // where valid: it is the gateway of this address alone
	firm bool       // somebody has said so, and it need not be on-link
}

// gateways returns the gateways that are known for an uplink, in the order in
// which they count.
func (s *survey) gateways(u *found, f fwmark.Family, broken bool) []gateway {
	var list []gateway
	if f == fwmark.IPv4 && u.leased && u.lease.Gateway.IsValid() {
		// A default of main's that an earlier router has left behind may be
		// on-link where the lease's router is not.
		list = append(list, gateway{addr: u.lease.Gateway, only: u.lease.Address}, gateway{addr: u.lease.Gateway})
	}
	if u.configured[f].IsValid() {
		list = append(list, gateway{addr: u.configured[f], firm: true})
	}
	list = append(list, u.stanzas[f]...)
	for _, routes := range [][]*Route{u.main[f], u.tables[f]} {
		slices.SortStableFunc(routes, compareDefaults)
		// A client that says a source with its default (dhcpcd, NetworkManager,
		// networkd) means that address. Longer routes go elsewhere.
		for _, r := range routes {
			if r.Src.IsValid() && r.Dst.Bits() == routes[0].Dst.Bits() {
				list = append(list, gateway{addr: r.nextHop(), only: r.Src})
			}
		}
		for _, r := range routes {
			list = append(list, gateway{addr: r.nextHop()})
		}
	}
	if broken {
		for _, table := range u.tablesNow(f) {
			if own := s.own.of(f, table); own.Device == u.Name && own.Gateway.IsValid() {
				list = append(list, gateway{addr: own.Gateway})
			}
		}
	}
	if s.links[u.Name].PointToPoint {
		list = append(list, gateway{addr: f.Unspecified()})
	}
	return list
}

// nextHop returns a route's gateway, unspecified where it has none.
func (r *Route) nextHop() netip.Addr {
	if r.Gateway.IsValid() {
		return r.Gateway
	}
	return r.Family.Unspecified()
}

// firstFor returns the first of the gateways that are known for any address.
func firstFor(known []gateway) netip.Addr {
	for _, gw := range known {
		if !gw.only.IsValid() {
			return gw.addr
		}
	}
	return known[0].addr
}

// tablesNow returns the tables that an uplink may have.
func (u *found) tablesNow(f fwmark.Family) []uint32 {
	var tables []uint32
	for _, a := range u.Addrs {
		if fwmark.FamilyOf(a) == f {
			tables = append(tables, TableOf(a))
		}
	}
	return append(tables, twinTable(u.Name))
}

// compareDefaults orders the routes that an interface leads everywhere by: the
// one that counts is first. A default may be spelled in several routes (see
// coverage); the shortest of them counts.
func compareDefaults(a, b *Route) int {
	return cmp.Or(cmp.Compare(a.Dst.Bits(), b.Dst.Bits()), cmp.Compare(a.Metric, b.Metric), -cmp.Compare(a.Preference, b.Preference))
}

// chooseGateways gives each address of an uplink its gateway, and the uplink its
// address and gateway.
func (s *survey) chooseGateways(u *found, f fwmark.Family, broken bool) {
	known := s.gateways(u, f, broken)
	for i, gw := range known { // one that is on no link of its addresses is meant for all of them
		known[i].firm = gw.firm && !slices.ContainsFunc(u.addrs, func(a *Address) bool { return a.Prefix.Contains(gw.addr) })
	}
	addrs := u.byAddress(f)
	address := u.addressFor(f, addrs, known)
	if len(address) > 0 {
		u.Address[f] = address[0].Prefix.Addr()
		u.Twin[f] = u.taken[u.Address[f]]
	}
	switch {
	case len(address) > 0:
		u.Gateways[f] = gatewayOf(address, known)
	case len(known) > 0:
		u.Gateways[f] = firstFor(known)
	}
	u.MTU[f], u.AdvMSS[f] = u.sizes(f)
	for _, a := range addrs {
		if gw := gatewayOf(a, known); gw != u.Gateways[f] {
			if u.OwnGateways == nil {
				u.OwnGateways = map[netip.Addr]netip.Addr{}
			}
			u.OwnGateways[a[0].Prefix.Addr()] = gw
		}
	}
}

// byAddress returns an uplink's addresses of a family, sorted, each with all
// prefixes that it has.
func (u *found) byAddress(f fwmark.Family) [][]*Address {
	var list [][]*Address
	for begin, end := 0, 0; begin < len(u.addrs); begin = end {
		addr := u.addrs[begin].Prefix.Addr()
		for end = begin + 1; end < len(u.addrs) && u.addrs[end].Prefix.Addr() == addr; end++ {
		}
		if fwmark.FamilyOf(addr) == f {
			list = append(list, u.addrs[begin:end])
		}
	}
	return list
}

// gatewayOf returns the gateway of an address: the first that is its own, or is
// on-link in a prefix of it; else the first of all addresses'.
func gatewayOf(address []*Address, known []gateway) (first netip.Addr) {
	for _, gw := range known {
		switch {
		case gw.only.IsValid():
			if gw.only == address[0].Prefix.Addr() {
				return gw.addr
			}
		case gw.firm, covers(address, gw.addr):
			return gw.addr
		case !first.IsValid():
			first = gw.addr
		}
	}
	return first
}

// covers reports whether a gateway is on-link in a prefix of an address.
func covers(address []*Address, gw netip.Addr) bool {
	return slices.ContainsFunc(address, func(a *Address) bool { return a.Prefix.Contains(gw) })
}

// addressFor returns the address whose table marks are led to: the leased one,
// else the lowest whose prefix covers the gateway, else the lowest, that is
// neither deprecated nor temporary. A modem's management address is often the
// lowest.
func (u *found) addressFor(f fwmark.Family, addrs [][]*Address, known []gateway) (best []*Address) {
	for _, a := range addrs {
		switch {
		case f == fwmark.IPv4 && u.leased && a[0].Prefix.Addr() == u.lease.Address:
			return a
		case a[0].Deprecated || a[0].Temporary || len(known) > 0 && !gatewayOf(a, known).IsValid():
		case best == nil || len(known) > 0 && covers(a, firstFor(known)) && !covers(best, firstFor(known)):
			best = a
		case u.lent[best[0].Prefix.Addr()] && !u.lent[a[0].Prefix.Addr()]: // one of its own before others
			best = a
		}
	}
	return best
}

// sizes returns what main's default through an uplink says of the size of
// packets: of several the one that has the uplink's gateway, else the first.
func (u *found) sizes(f fwmark.Family) (mtu, advMSS uint32) {
	if len(u.main[f]) == 0 {
		return 0, 0
	}
	r := u.main[f][0]
	for _, other := range u.main[f] {
		if other.Gateway == u.Gateways[f] {
			r = other
			break
		}
	}
	return r.MTU, r.AdvMSS
}
