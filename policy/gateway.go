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
		for _, r := range routes {
			if r.Gateway.IsValid() {
				list = append(list, gateway{addr: r.Gateway})
			} else {
				list = append(list, gateway{addr: f.Unspecified()})
			}
		}
	}
	if broken {
		for _, a := range u.Addrs {
			own := s.own.of(TableOf(a))
			if fwmark.FamilyOf(a) == f && own.Device == u.Name && own.Gateway.IsValid() {
				list = append(list, gateway{addr: own.Gateway})
			}
		}
	}
	if s.links[u.Name].PointToPoint {
		list = append(list, gateway{addr: f.Unspecified()})
	}
	return list
}

// compareDefaults orders the routes that an interface leads everywhere by: the
// one that counts is first. A default may be spelled in several routes (see
// LeadsEverywhere); the shortest of them counts.
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
	u.Address[f] = u.addressFor(f, known)
	u.Gateways[f] = u.gatewayOf(u.Address[f], known)
	if !u.Address[f].IsValid() && len(known) > 0 {
		u.Gateways[f] = known[0].addr
	}
	u.MTU[f], u.AdvMSS[f] = u.sizes(f)
	for _, a := range u.Addrs {
		if fwmark.FamilyOf(a) != f {
			continue
		}
		if gw := u.gatewayOf(a, known); gw != u.Gateways[f] {
			if u.OwnGateways == nil {
				u.OwnGateways = map[netip.Addr]netip.Addr{}
			}
			u.OwnGateways[a] = gw
		}
	}
}

// gatewayOf returns the gateway of an address: its own one, else the first that
// is on-link in a prefix of it, else the first.
func (u *found) gatewayOf(addr netip.Addr, known []gateway) netip.Addr {
	for _, gw := range known {
		if gw.only == addr && addr.IsValid() {
			return gw.addr
		}
	}
	var first netip.Addr
	for _, gw := range known {
		switch {
		case gw.only.IsValid():
		case gw.firm, u.covers(addr, gw.addr):
			return gw.addr
		case !first.IsValid():
			first = gw.addr
		}
	}
	return first
}

// covers reports whether a gateway is on-link in a prefix of an address.
func (u *found) covers(addr, gw netip.Addr) bool {
	return slices.ContainsFunc(u.addrs, func(a *Address) bool { return a.Prefix.Addr() == addr && a.Prefix.Contains(gw) })
}

// addressFor returns the address whose table marks are led to: the leased one,
// else the lowest whose prefix covers the gateway, else the lowest, that is
// neither deprecated nor temporary. A modem's management address is often the
// lowest.
func (u *found) addressFor(f fwmark.Family, known []gateway) netip.Addr {
	if f == fwmark.IPv4 && u.leased && slices.Contains(u.Addrs, u.lease.Address) {
		return u.lease.Address
	}
	var lowest netip.Addr
	for _, a := range u.addrs { // sorted
		addr := a.Prefix.Addr()
		switch {
		case fwmark.FamilyOf(addr) != f || a.Deprecated || a.Temporary || len(known) > 0 && !u.gatewayOf(addr, known).IsValid():
		case len(known) > 0 && a.Prefix.Contains(known[0].addr):
			return addr
		case !lowest.IsValid():
			lowest = addr
		}
	}
	return lowest
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
