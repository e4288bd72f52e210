package policy

import "net/netip"

// source is a prefix of addresses that are an uplink's, whichever interface has
// them: a prefix that the ISP has delegated stands on a LAN's bridge, and a PPPoE
// link may have no global address of its own.
type source struct {
	prefix netip.Prefix
	uplink string
}

// ownerOf returns the uplink that an address is by its prefix, the longest of
// several; nil where it is in none.
func (s *survey) ownerOf(addr netip.Addr) *found {
	longest := -1
	var owner *found
	for _, src := range s.sources {
		if src.prefix.Contains(addr) && src.prefix.Bits() > longest {
			longest, owner = src.prefix.Bits(), s.uplinks[src.uplink]
		}
	}
	return owner
}

// lend returns an address of another interface as one of the uplink's. What is
// on-link there is not so on the uplink.
func (u *found) lend(a *Address) *Address {
	if u.lent == nil {
		u.lent = map[netip.Addr]bool{}
	}
	u.lent[a.Prefix.Addr()] = true
	b := *a
	b.Device = u.Name
	b.Prefix = netip.PrefixFrom(a.Prefix.Addr(), a.Prefix.Addr().BitLen())
	return &b
}
