package policy

import (
	"net/netip"

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
	onLink  map[deviceKey]*prefixSet // by uplink
	own     map[deviceKey][]Route    // main's longer routes through the uplink
	shared  [2][]Route               // by family
	links   []Route                  // to link-local neighbours of each device that leads away
	rest    map[deviceKey]Route      // defaults

	hosts  map[netip.Addr]bool         // this host's addresses; these three are made when they are asked for
	main   [2]*longestMatch            // by family
	copied map[deviceKey]*longestMatch // what Copies returns
}

// deviceKey is an uplink, or another device that leads away, in a family.
type deviceKey struct {
	family fwmark.Family
	device string
}

// Of returns whose a destination is, for what is pinned to an uplink or sent from
// its address.
func (d *Destinations) Of(uplink string, dst netip.Addr) Owner {
	if d.isHosts(dst) {
		return Owner{Whose: TheHosts}
	}
	k := deviceKey{fwmark.FamilyOf(dst), uplink}
	if r := d.inMain(dst); r != nil && r.Type != ThrowRoute && (r.Type != Unicast || !r.isDefault() && !d.away[r.Device]) {
		return Owner{Mains, *r}
	}
	if r := d.copiesOf(k).longest(dst); r != nil {
		if r.Device == uplink {
			return Owner{TheUplink, *r}
		}
		return Owner{Shared, *r}
	}
	return Owner{TheRest, d.rest[k]}
}

func (d *Destinations) isHosts(dst netip.Addr) bool {
	if d.hosts == nil {
		d.hosts = hostsOf(d.facts.Addrs)
	}
	limited := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	return dst.IsMulticast() || dst.IsLoopback() || dst == limited || dst.Is6() && dst.IsLinkLocalUnicast() || d.hosts[dst]
}

// hostsOf returns this host's addresses, and those of broadcasts.
func hostsOf(addrs []Address) map[netip.Addr]bool {
	hosts := make(map[netip.Addr]bool, len(addrs))
	for i := range addrs {
		hosts[addrs[i].Prefix.Addr()] = true
		if b := addrs[i].Broadcast; b.IsValid() {
			hosts[b] = true
		}
	}
	return hosts
}

// inMain returns main's longest route to a destination, of several the one with
// the lowest metric; nil: it has none.
func (d *Destinations) inMain(dst netip.Addr) *Route {
	family := fwmark.FamilyOf(dst)
	if d.main[family] == nil {
		d.main[family] = &longestMatch{}
		for i := range d.facts.Routes {
			if r := &d.facts.Routes[i]; r.Table == TableMain && r.Family == family {
				d.main[family].add(r)
			}
		}
	}
	return d.main[family].longest(dst)
}

// copiesOf finds routes among the Copies of an uplink that has a table.
func (d *Destinations) copiesOf(k deviceKey) *longestMatch {
	if d.copied[k] == nil {
		d.copied[k] = &longestMatch{}
		if _, routed := d.rest[k]; routed {
			list := d.Copies(k.device, k.family)
			for i := range list {
				d.copied[k].add(&list[i])
			}
		}
	}
	return d.copied[k]
}

// longestMatch finds the route with the longest prefix that has an address in it.
type longestMatch struct {
	first   map[netip.Prefix]*Route
	lengths [129]bool
}

func (p *longestMatch) add(r *Route) {
	if o := p.first[r.Dst]; o == nil || r.Metric < o.Metric {
		if p.first == nil {
			p.first = map[netip.Prefix]*Route{}
		}
		p.first[r.Dst] = r
		p.lengths[r.Dst.Bits()] = true
	}
}

func (p *longestMatch) longest(dst netip.Addr) *Route {
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

// prefixSet is a set of prefixes of one family, which tells what lies in them.
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
