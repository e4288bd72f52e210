package policy

import (
	"fmt"
	"net/netip"
	"sort"

	"wg-multihome/fwmark"
)

// Where our rules start, and how many preferences they take.
const (
	DefaultPriority = 32752
	span            = 5
)

// halves are the two routes that together stand for a default: OpenVPN's
// `redirect-gateway def1` has them, and they pass suppress_prefixlength 0.
type halves struct{ low, high bool }

func (h *halves) add(r Route) {
	if r.Dst.Bits() == 1 {
		if r.Dst.Addr().IsUnspecified() {
			h.low = true
		} else {
			h.high = true
		}
	}
}

func (h halves) both() bool { return h.low && h.high }

// tableDefaults says how a table leads to everywhere.
type tableDefaults struct {
	def    bool
	halves halves
}

type tableKey struct {
	family fwmark.Family
	table  uint32
}

// defaults summarises every table that was read. Only unicast routes count:
// an unreachable default loses packets and leaks none.
func defaults(f Facts) map[tableKey]tableDefaults {
	m := map[tableKey]tableDefaults{}
	for _, r := range f.Routes {
		if r.Type != Unicast || r.Dst.Bits() > 1 {
			continue
		}
		k := tableKey{r.Family, r.Table}
		d := m[k]
		d.def = d.def || r.isDefault()
		d.halves.add(r)
		m[k] = d
	}
	return m
}

// capture answers which foreign rules take packets of ours.
type capture struct {
	marks  []fwmark.Mark
	addrs  []netip.Addr // of one family, sorted: a prefix holds neighbours
	tables map[tableKey]tableDefaults
	taken  map[Rule]bool
}

// captures reports whether a packet with one of our marks from any source, or
// from one of our addresses without a mark, can match r, and r then leads it
// to a default. A selector that we do not know is taken as matching.
func (c capture) captures(r Rule) bool {
	switch r.Action {
	case Nop, Blackhole, Unreachable, Prohibit:
		return false
	case Lookup:
		if !c.leads(r) {
			return false
		}
	}
	return !r.Ours() && !c.taken[r] && c.matches(r)
}

func (c capture) leads(r Rule) bool {
	if r.Table == 0 { // l3mdev: the table is the device's, and not known here
		return true
	}
	t := c.tables[tableKey{r.Family, r.Table}]
	if !r.Suppresses {
		return t.def || t.halves.both()
	}
	return r.Suppress < 1 && t.halves.both()
}

func (c capture) matches(r Rule) bool {
	if r.Invert {
		return c.matchesInverted(r)
	}
	// As deliberate as a longer route in main; and what comes in from
	// elsewhere is not ours to pin.
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

// matchesInverted decides about `not`. With one selector that we know by
// heart the answer is exact; with more of them something always matches.
func (c capture) matchesInverted(r Rule) bool {
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

// Front is a foreign rule that our rules stand in front of, out of their place.
type Front struct {
	Rule Rule
	Base uint32
}

func (f Front) String() string {
	return fmt.Sprintf("our IPv%s rules start at %d, in front of the foreign rule: %s", f.Rule.Family, f.Base, f.Rule)
}

// base returns where our rules of a family start: priority, or just in front
// of the first foreign rule that captures. A rule at a preference below span+1
// leaves no room in front, as 0 is the kernel's own; that is an error, and the
// next one decides.
func (c capture) base(rules []Rule, family fwmark.Family, priority uint32) (uint32, *Front, error) {
	var err error
	for _, r := range rules {
		if r.Family != family || r.Priority >= priority+span || !c.captures(r) {
			continue
		}
		if r.Priority <= span {
			if err == nil {
				err = fmt.Errorf("no room in front of the foreign rule that takes pinned packets: %s", r)
			}
			continue
		}
		b := r.Priority - span
		return b, &Front{Rule: r, Base: b}, err
	}
	return priority, nil, err
}
