package policy

import (
	"net/netip"
	"slices"

	"wg-multihome/fwmark"
)

// Whose says to whom a destination is left, of what is pinned to an uplink or
// sent from its address.
type Whose uint8

// In the order in which they are asked.
const (
	TheHosts  Whose = iota // this host, multicast, broadcast, link-local: as the kernel has it
	Mains                  // LANs, split tunnels, and what main refuses: as main has it
	TheUplink              // on-link at the uplink, or by a longer route of main through it
	Shared                 // private, or given to an uplink for all: that way for everybody
	TheRest                // by the uplink's default, or refused
)

// Owner is whose a destination is, and the route that leads there: of main, or as
// the uplink's tables have it. It is the zero Route of what is TheHosts, and of
// TheRest where the uplink has no table.
type Owner struct {
	Whose Whose
	Route Route
}

// Destinations answers whose destinations are. Rules, and the tables of uplinks,
// are made so that the kernel does what it says, see Want.
type Destinations struct {
	Left []string // what there is too much of to be copied

	facts   Facts
	away    map[string]bool // see Away
	uplinks map[string]bool
	sources map[netip.Addr]bool      // addresses that routes can have as a source
	onLink  map[uplinkKey]*prefixSet // by uplink
	own     map[uplinkKey][]Route    // main's longer routes through the uplink
	shared  [2][]Route               // by family
	links   []Route                  // to link-local neighbours of each device that leads away
	rest    map[uplinkKey]Route      // defaults

	main   [2]*prefixes // these two are made when they are asked for
	copied map[uplinkKey]*prefixes
}

// uplinkKey is an uplink, or another device that leads away, in a family.
type uplinkKey struct {
	family fwmark.Family
	uplink string
}

// Of returns whose a destination is, for what is pinned to an uplink or sent from
// its address.
func (d *Destinations) Of(uplink string, dst netip.Addr) Owner {
	if d.isHosts(dst) {
		return Owner{Whose: TheHosts}
	}
	k := uplinkKey{fwmark.FamilyOf(dst), uplink}
	if r := d.inMain(dst); r != nil && r.Type != ThrowRoute && (r.Type != Unicast || !r.isDefault() && !d.away[r.Device]) {
		return Owner{Mains, *r}
	}
	if r := d.copies(k).longest(dst); r != nil {
		if r.Device == uplink {
			return Owner{TheUplink, *r}
		}
		return Owner{Shared, *r}
	}
	return Owner{TheRest, d.rest[k]}
}

func (d *Destinations) isHosts(dst netip.Addr) bool {
	limited := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	return dst.IsMulticast() || dst.IsLoopback() || dst == limited || dst.Is6() && dst.IsLinkLocalUnicast() ||
		slices.ContainsFunc(d.facts.Addrs, func(a Address) bool { return dst == a.Prefix.Addr() || dst == a.Broadcast })
}

// inMain returns main's longest route to a destination, of several the one with
// the lowest metric; nil: it has none.
func (d *Destinations) inMain(dst netip.Addr) *Route {
	family := fwmark.FamilyOf(dst)
	if d.main[family] == nil {
		d.main[family] = &prefixes{}
		for i := range d.facts.Routes {
			if r := &d.facts.Routes[i]; r.Table == TableMain && r.Family == family {
				d.main[family].add(r)
			}
		}
	}
	return d.main[family].longest(dst)
}

// copies returns what an uplink's tables hold but for defaults.
func (d *Destinations) copies(k uplinkKey) *prefixes {
	if d.copied[k] == nil {
		d.copied[k] = &prefixes{}
		if _, routed := d.rest[k]; routed {
			list := d.Copies(k.uplink, k.family)
			for i := range list {
				d.copied[k].add(&list[i])
			}
		}
	}
	return d.copied[k]
}

// prefixes finds the route with the longest prefix.
type prefixes struct {
	first   map[netip.Prefix]*Route
	lengths [129]bool
}

func (p *prefixes) add(r *Route) {
	if o := p.first[r.Dst]; o == nil || r.Metric < o.Metric {
		if p.first == nil {
			p.first = map[netip.Prefix]*Route{}
		}
		p.first[r.Dst] = r
		p.lengths[r.Dst.Bits()] = true
	}
}

func (p *prefixes) longest(dst netip.Addr) *Route {
	for bits := dst.BitLen(); bits >= 0; bits-- {
		if !p.lengths[bits] {
			continue
		}
		if r := p.first[netip.PrefixFrom(dst, bits).Masked()]; r != nil {
			return r
		}
	}
	return nil
}

// prefixSet is prefixes of one family.
type prefixSet struct {
	has     map[netip.Prefix]bool
	lengths [129]bool
}

func (s *prefixSet) add(p netip.Prefix) {
	if s.has == nil {
		s.has = map[netip.Prefix]bool{}
	}
	s.has[p], s.lengths[p.Bits()] = true, true
}

// covers reports whether a prefix lies wholly in one of the set. A nil set has
// none.
func (s *prefixSet) covers(p netip.Prefix) bool {
	if s == nil {
		return false
	}
	for bits := range p.Bits() + 1 {
		if s.lengths[bits] && s.has[netip.PrefixFrom(p.Addr(), bits).Masked()] {
			return true
		}
	}
	return false
}

// IsPrivate reports whether a prefix lies wholly in private space.
func IsPrivate(p netip.Prefix) bool {
	return slices.ContainsFunc(PrivateSpace[fwmark.FamilyOf(p.Addr())], func(l netip.Prefix) bool {
		return l.Bits() <= p.Bits() && l.Contains(p.Addr())
	})
}
