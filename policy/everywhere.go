package policy

import (
	"math"
	"net/netip"
	"slices"

	"wg-multihome/fwmark"
)

// What leads everywhere. A default route can be spelled in many ways: /1 halves,
// four /2, all but the private networks, 2000::/3, a full feed. So routes count
// as a way to the whole Internet by how much of the public address space they
// cover, or by how many public prefixes they have.

// manyPrefixes is how many public prefixes routes have at the most that do not
// lead everywhere by their number alone, as those of a full feed do.
const manyPrefixes = 1000

// quarter is the share of the public space that is as good as all of it.
const quarter = 0.25

// space is the public space of a family: blocks, but for what is left out of
// them. None of its prefixes lies in another one of its list.
type space struct {
	blocks, less []netip.Prefix
	whole        bool // one whole block is as good as all
}

var publicSpaces = [...]space{
	fwmark.IPv4: {
		blocks: prefixList("0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3"),
		less:   append(prefixList("0.0.0.0/8", "127.0.0.0/8"), fwmark.PrivatePrefixes[:]...),
	},
	// The blocks that the registries give most of their addresses from.
	fwmark.IPv6: {
		blocks: prefixList("2001::/16", "2400::/12", "2600::/12", "2800::/12", "2a00::/12", "2c00::/12"),
		whole:  true,
	},
}

func prefixList(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

// common returns which share of a family's addresses is in both of two prefixes;
// 0 where they are of two families. It is exact: the numbers are powers of two.
func common(a, b netip.Prefix) float64 {
	if a.Bits() > b.Bits() {
		a, b = b, a
	}
	if !a.Contains(b.Addr()) {
		return 0
	}
	return math.Ldexp(1, -b.Bits())
}

// share returns which share of all addresses is public, and in a prefix.
func (s *space) share(p netip.Prefix) (share float64) {
	for _, b := range s.blocks {
		share += common(b, p)
	}
	for _, l := range s.less {
		share -= common(l, p)
	}
	return share
}

// isPublic reports whether some of a prefix is public.
func isPublic(p netip.Prefix) bool {
	return publicSpaces[fwmark.FamilyOf(p.Addr())].share(p) > 0
}

// coverage gathers the prefixes of routes, of one family, to say whether they
// lead everywhere: whether they cover a quarter of the family's public space, or,
// of IPv6, one whole block of it, or have more public prefixes than manyPrefixes. It
// keeps few of them however many there are: public ones
// alone, and of more than manyPrefixes none.
type coverage struct {
	public []netip.Prefix // some may be there twice
	many   bool           // there were more than manyPrefixes
}

func (c *coverage) add(p netip.Prefix) {
	if c.many || len(c.public) > 0 && c.public[len(c.public)-1] == p {
		return
	}
	if !isPublic(p) {
		return
	}
	if len(c.public) >= 2*manyPrefixes {
		c.settle()
	}
	if !c.many {
		c.public = append(c.public, p)
	}
}

// addAll adds what another one has gathered.
func (c *coverage) addAll(o *coverage) {
	c.many = c.many || o.many
	for _, p := range o.public {
		c.add(p)
	}
}

// settle sorts, with prefixes in front of those that lie in them, and takes out
// what is there twice.
func (c *coverage) settle() {
	slices.SortFunc(c.public, func(a, b netip.Prefix) int {
		if order := a.Addr().Compare(b.Addr()); order != 0 {
			return order
		}
		return a.Bits() - b.Bits()
	})
	c.public = slices.Compact(c.public)
	if len(c.public) > manyPrefixes {
		c.public, c.many = nil, true
	}
}

func (c *coverage) everywhere() bool {
	c.settle()
	if c.many || len(c.public) == 0 {
		return c.many
	}
	family := fwmark.FamilyOf(c.public[0].Addr())
	s := &publicSpaces[family]
	var covered float64
	of := make([]float64, len(s.blocks)) // what is covered of each
	var last netip.Prefix
	for _, p := range c.public {
		if last.IsValid() && last.Overlaps(p) {
			continue // it lies in the last one
		}
		last = p
		covered += s.share(p)
		for i, b := range s.blocks {
			of[i] += common(b, p)
		}
	}
	for i, b := range s.blocks {
		if s.whole && of[i] == common(b, b) {
			return true
		}
	}
	all := s.share(netip.PrefixFrom(family.Unspecified(), 0))
	return covered >= quarter*all
}
