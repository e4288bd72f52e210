package nft

import (
	"net/netip"

	"wg-multihome/fwmark"
)

// Conntrack is had forget UDP of a service that it knows by the wrong mark, or by none,
// so that the next datagram of its socket begins a connection anew. An answer to an
// earlier one may be on its way, and where it comes first, to conntrack it is the
// first packet of a connection that the far side begins: what the service sends from
// then on are answers, which get no mark. So such answers are dropped as they arrive,
// before conntrack enters them, until the service sends on, or the far side is silent.

// latePrefix is what the names of their sets begin with.
const latePrefix = "late"

// LateSet is the name of the set of answers that are dropped.
func LateSet(f fwmark.Family) string { return latePrefix + f.String() }

// Late is such an answer, as it arrives. No address is an IPv4-mapped one.
type Late struct{ From, To netip.AddrPort }

// late makes the sets, and returns the rules that look them up.
func (w *wanter) late() (rules []Rule) {
	for _, f := range fwmark.Families {
		w.set(Set{Name: LateSet(f), Type: Answers, Family: f, Public: true})
		rules = append(rules, Rule{{Kind: UDP}, {Kind: Original}, {Kind: LateAnswer, Family: f, Name: LateSet(f)}, {Kind: Drop}})
	}
	return rules
}
