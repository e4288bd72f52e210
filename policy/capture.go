package policy

import (
	"net/netip"
	"sort"

	"wg-multihome/fwmark"
)

// captureCheck answers which foreign rules capture packets of ours: those with
// one of marks, and those that are sent from one of addrs.
type captureCheck struct {
	marks       []fwmark.Mark
	addrs       []netip.Addr // of one family, sorted: those of one prefix are neighbours
	tables      *tablesEverywhere
	scriptRules map[Rule]bool // capture nothing: they are about to be taken over
}

// ofMarks and ofAddrs ask for one kind of our packets alone.
func (c captureCheck) ofMarks() captureCheck { c.addrs = nil; return c }
func (c captureCheck) ofAddrs() captureCheck { c.marks = nil; return c }

// captures reports whether a packet with one of our marks from any source, or
// from one of our addresses without a mark, can match r, and r then leads it
// everywhere. A selector that we do not know is taken as matching. A goto may
// lead anywhere; what loses packets leaks none.
func (c captureCheck) captures(r *Rule) bool {
	switch {
	case r.Ours() || c.scriptRules[*r] || !c.matches(r):
		return false
	case r.Action == Lookup:
		return c.tables.lead(r)
	}
	return r.Action != Nop && r.Action != Blackhole && r.Action != Unreachable && r.Action != Prohibit
}

// passed returns the foreign rules that look up a table for packets of ours, and
// would be asked for it before ours if those stood at the configured priority.
func (c captureCheck) passed(rules []Rule, family fwmark.Family, first, configured uint32) (list []Rule) {
	for _, r := range rules {
		if r.Family != family || r.Priority < first || r.Priority >= configured || r.Ours() || c.scriptRules[r] ||
			r.Action != Lookup || r.Table == 0 || r.Table == TableMain || r.Table == TableLocal {
			continue
		}
		whole := r
		whole.To = netip.Prefix{}
		if c.matches(&whole) {
			list = append(list, r)
		}
	}
	return list
}

// matches reports whether a rule can match some packet of ours.
func (c captureCheck) matches(r *Rule) bool {
	if r.Invert {
		return c.matchesInverted(r)
	}
	// A `to` longer than /1 is as deliberate as a longer route in main, and
	// packets that come in from elsewhere are not ours to pin.
	if r.To.IsValid() && r.To.Bits() > 1 || r.Iif != "" && r.Iif != "lo" {
		return false
	}
	for _, m := range c.marks {
		if r.Mark.Overlaps(m) { // mask 0, no selector, overlaps all
			return true
		}
	}
	if r.Mark.Value&r.Mark.Mask != 0 {
		return false
	}
	if !r.From.IsValid() {
		return len(c.addrs) > 0
	}
	from := r.From.Masked().Addr()
	first := sort.Search(len(c.addrs), func(i int) bool { return !c.addrs[i].Less(from) })
	return first < len(c.addrs) && r.From.Contains(c.addrs[first])
}

// matchesInverted is matches for a rule with `not`. With a mark or a source as
// its only selector the answer is exact. With any other, or with several, the
// rule counts as matching.
func (c captureCheck) matchesInverted(r *Rule) bool {
	if r.Opaque || r.To.IsValid() || r.Iif != "" || r.Oif != "" || r.From.IsValid() && r.Mark.Mask != 0 {
		return len(c.marks)+len(c.addrs) > 0
	}
	if r.From.IsValid() {
		if len(c.marks) > 0 {
			return true
		}
		last := len(c.addrs) - 1
		return last >= 0 && !(r.From.Contains(c.addrs[0]) && r.From.Contains(c.addrs[last]))
	}
	for _, m := range c.marks {
		if !m.Within(r.Mark) {
			return true
		}
	}
	return len(c.addrs) > 0 && r.Mark.Value&r.Mark.Mask != 0
}
