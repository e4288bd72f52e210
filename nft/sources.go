package nft

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"wg-multihome/fwmark"
)

// sources gives pinned connections a source of their uplink. A socket's source
// was chosen before its packets had the mark, so it may be another uplink's, and
// then the connection is translated. It is `masquerade` where that chooses the
// uplink's address, because the kernel forgets masqueraded connections when the
// address goes. Where the interface has others as well (a modem's management address,
// one older than the lease), it is `snat`, and a set notes the address: once this host
// has it no more, the connections are forgotten.
//
// The rule stands even while the mark has no table: a connection that begins without
// it would keep its source for as long as it lasts.
//
// On an uplink without an address `masquerade` takes the address of another
// interface, and the connection keeps that. The lock drops those (see lockOf).
func (w *wanter) sources() {
	var rules []Rule
	for _, p := range w.keeping {
		if p.Uplink == "" {
			continue
		}
		foreign := Rule{{Kind: CtMark, Mark: p.Mark}, {Kind: OutDevice, Name: p.Uplink}}
		for _, f := range fwmark.Families {
			if a := w.snat(p.Uplink, f); a.IsValid() {
				rules = append(rules, append(slices.Clone(foreign), Expr{Kind: OfFamily, Family: f}, Expr{Kind: FromOther}, Expr{Kind: Translate, Prefix: alone(a)}))
				w.set(Set{Name: setName(sourcePrefix+f.String()+"_", p.Uplink), Type: Prefixes, Family: f, Ranges: merged([]netip.Prefix{alone(a)})[f]})
			}
		}
		rules = append(rules, append(foreign, Expr{Kind: FromOther}, Expr{Kind: Masquerade}))
	}
	w.chain(sourcesChain, Base{"nat", "postrouting", prioritySNAT}, rules...)
}

// snat returns the address that connections by an uplink get, where the kernel might
// choose another one; invalid elsewhere.
func (w *wanter) snat(uplink string, f fwmark.Family) netip.Addr {
	if u := w.uplinks[uplink]; u.Several[f] {
		return u.Address[f]
	}
	return netip.Addr{}
}

func alone(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// Translated returns the addresses that connections were given by `snat`, as it
// stands.
func (s State) Translated() []netip.Addr {
	var list []netip.Addr
	for _, name := range slices.Sorted(maps.Keys(s.Sets)) {
		if set := s.Sets[name]; set.Type == Prefixes && strings.HasPrefix(name, sourcePrefix) {
			for _, r := range set.Ranges {
				list = append(list, r.From())
			}
		}
	}
	return list
}
