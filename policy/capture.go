package policy

import (
	"net/netip"
	"slices"
	"sort"

	"wg-multihome/fwmark"
)

// captureCheck answers which foreign rules capture packets of ours: those with
// one of marks, and those that are sent from one of addrs.
type captureCheck struct {
	marks       []fwmark.Mark
	addrs       []netip.Addr // of one family, sorted: those of one prefix are neighbours
	tables      *tablesEverywhere
	away        map[string]bool // see Away
	scriptRules map[Rule]bool   // capture nothing: they are about to be taken over
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
		return c.tables.lead(r) || c.leadsAstray(r)
	}
	return r.Action != Nop && r.Action != Blackhole && r.Action != Unreachable && r.Action != Prohibit
}

// leadsAstray reports whether a rule leads by main's public routes through devices
// that lead away, where ours pass over these by their group: to another uplink's
// network, or in IPv6 by what was learned of a path, which is of the full length
// also where it came by a default.
func (c captureCheck) leadsAstray(rule *Rule) bool {
	if rule.Table != TableMain {
		return false
	}
	f := &c.tables.facts
	return slices.ContainsFunc(f.Routes, func(r Route) bool {
		suppressed := rule.Suppresses && r.Dst.Bits() <= int(rule.Suppress) && r.Family == fwmark.IPv4
		return r.Family == rule.Family && r.Table == TableMain && r.Type == Unicast && c.away[r.Device] && !suppressed &&
			!fwmark.IsPrivate(r.Dst) && r.Dst != linkLocal
	})
}

// passed returns the foreign rules that look up a table for packets of ours, and
// would be asked for it before ours if those stood at the configured priority. Of
// those behind that, which main's rule is behind of in turn, it returns the ones
// that are asked for whatever has no mark, or for all that goes to some destinations:
// what they lead to main does not have. What others say of users or ports is theirs.
func (c captureCheck) passed(rules []Rule, family fwmark.Family, first, configured uint32) (list []Rule) {
	for _, r := range rules {
		if r.Family != family || r.Priority < first || r.Ours() || c.scriptRules[r] || r.Action != Lookup {
			continue
		}
		whole := r
		whole.To = netip.Prefix{}
		if r.Priority >= configured {
			if r.isMain() {
				break
			}
			if r.Invert && r.To.IsValid() || !whole.selectsAll() {
				continue
			}
		}
		if r.Table != 0 && r.Table != TableMain && r.Table != TableLocal && c.matches(&whole) {
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
	// A `to` is as deliberate as a longer route in main, unless it is a default in
	// pieces; and packets that come in from elsewhere are not ours to pin.
	if c.tables.selectsSome(r) || r.Iif != "" && r.Iif != "lo" {
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
