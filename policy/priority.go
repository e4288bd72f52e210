package policy

import (
	"fmt"
	"net/netip"

	"wg-multihome/fwmark"
)

// The priority where our rules start, and how many priorities they take.
const (
	DefaultPriority = fwmark.DefaultPriority
	span            = 5
)

// Front is a foreign rule that captures, so that our rules start in front of
// it and not at the configured priority.
type Front struct {
	Rule  Rule
	First uint32 // the priority of our first rules
}

func (f Front) String() string {
	return fmt.Sprintf("our IPv%s rules start at %d, in front of the foreign rule: %s", f.Rule.Family, f.First, f.Rule)
}

// places are the priorities where our rules of a family start.
type places struct {
	blocks uint32 // those of marks, B
	pairs  uint32 // those of addresses, P
}

// The places of pairs, from that of blocks on, and how many priorities a pair
// takes.
const (
	pairsAt  = 3
	pairSpan = 2
)

// places returns where our rules of a family start: at the configured priority,
// or just in front of the first foreign rule that captures. marks and addrs ask
// for what our rules select.
//
// Pairs go in front of plain rules alone. One with selectors of its own (uid,
// ports, from) is an administrator's word about packets without a mark, and is
// asked before them. Blocks go in front of pairs in any case: a pair selects by
// source alone, and would lead marked packets.
func (c captureCheck) places(rules []Rule, family fwmark.Family, configured places) (at places, front *Front, errs []error) {
	at = configured
	marked, err := c.ofMarks().first(rules, family, configured.blocks+pairsAt, func(*Rule) bool { return true })
	if err != nil {
		errs = append(errs, err)
	}
	sourced, err := c.ofAddrs().first(rules, family, configured.pairs+pairSpan, c.tables.selectsAll)
	if err != nil && (len(errs) == 0 || errs[0].Error() != err.Error()) {
		errs = append(errs, err)
	}
	if sourced != nil {
		at.pairs = sourced.Priority - pairSpan
	}
	if marked != nil {
		at.blocks = marked.Priority - span
		front = &Front{Rule: *marked, First: at.blocks}
	}
	if at.pairs < at.blocks+pairsAt {
		at.blocks = at.pairs - pairsAt
		if sourced != nil {
			front = &Front{Rule: *sourced, First: at.blocks}
		}
	}
	return at, front, errs
}

// first returns the first foreign rule of some kind that captures, and stands in
// front of a priority. In front of a rule at priority 5 (span) or less there is no
// room, as priority 0 is the kernel's own: that is an error, and the next rule
// counts.
func (c captureCheck) first(rules []Rule, family fwmark.Family, behind uint32, is func(*Rule) bool) (first *Rule, err error) {
	for i := range rules {
		r := &rules[i]
		if r.Family != family || r.Priority >= behind || !is(r) || !c.captures(r) {
			continue
		}
		if r.Priority > span {
			return r, err
		}
		if err == nil {
			err = fmt.Errorf("no room in front of the foreign rule that takes pinned packets, so give it a larger priority: %s", r)
		}
	}
	return nil, err
}

// unasked returns the foreign rules with selectors of their own that stand behind
// the pairs, so that they are never asked for packets of our addresses: those that
// lead everywhere, and in front of main's those for some destinations, but for
// private ones of which tables of ours have copies (see passed).
func (c captureCheck) unasked(rules []Rule, family fwmark.Family, pairs uint32) (list []Rule) {
	of := c.ofAddrs()
	main := false // its rule was seen
	for i := range rules {
		r := &rules[i]
		main = main || r.Family == family && r.isMain()
		if r.Family != family || r.Priority < pairs || c.tables.selectsAll(r) {
			continue
		}
		whole := *r
		whole.To = netip.Prefix{}
		some := !main && !r.Ours() && !r.Invert && r.Action == Lookup && c.tables.selectsSome(r) && of.matches(&whole) &&
			!(whole.selectsAll() && fwmark.IsPrivate(r.To))
		if some || of.captures(r) {
			list = append(list, *r)
		}
	}
	return list
}

// isMain reports whether it is the rule that main's routes are asked by.
func (r *Rule) isMain() bool {
	return r.Action == Lookup && r.Table == TableMain && r.selectsAll() && !r.Invert && !r.suppressesAny()
}

// standingPlaces returns where our rules of a family start now, as far as any
// stand, and the default places elsewhere.
func standingPlaces(rules []Rule, family fwmark.Family) places {
	at := places{DefaultPriority, DefaultPriority + pairsAt}
	block, pair := false, false
	for i := range rules {
		r := &rules[i]
		switch {
		case r.Family != family || !r.Ours() || !r.isSuppress():
		case r.sourced() && !pair:
			at.pairs, pair = max(r.Priority, pairsAt+1), true
		case r.marked() && !block:
			at.blocks, block = max(r.Priority, 1), true
		}
	}
	switch {
	case block && !pair:
		at.pairs = at.blocks + pairsAt
	case pair && !block:
		at.blocks = at.pairs - pairsAt
	}
	return at
}
