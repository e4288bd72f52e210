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
// before conntrack enters them, until the service sends on, or the far side is silent;
// guessed ones for LateTime at most.

// What the names of their sets begin with.
const latePrefix, guessedPrefix = "late", "guessed"

// Late is such an answer, as it arrives. No address is an IPv4-mapped one.
type Late struct {
	From, To netip.AddrPort

	// Guessed says that it may be a question: the socket is not connected. What asks
	// again and again is to be heard at last, so such ones are dropped for LateTime
	// from the first on, however many come.
	Guessed bool
}

// Set is the name of the set in which it is dropped.
func (l Late) Set() string {
	prefix := latePrefix
	if l.Guessed {
		prefix = guessedPrefix
	}
	return prefix + fwmark.FamilyOf(l.From.Addr()).String()
}

// late makes the sets, and returns the rules that look them up.
func (w *wanter) late() (rules []Rule) {
	for _, of := range []struct {
		prefix string
		kind   Kind
	}{{latePrefix, LateAnswer}, {guessedPrefix, GuessedAnswer}} {
		for _, f := range fwmark.Families {
			name := of.prefix + f.String()
			w.set(Set{Name: name, Type: Answers, Family: f, Public: true})
			rules = append(rules, Rule{{Kind: UDP}, {Kind: Original}, {Kind: of.kind, Family: f, Name: name}, {Kind: Drop}})
		}
	}
	return rules
}
