package policy

import (
	"fmt"
	"net/netip"

	"wg-multihome/fwmark"
)

// Served is an uplink's address that an administrator's own rule leads: it gets
// no pair of ours, nor a table for one.
type Served struct {
	Uplink string
	Addr   netip.Addr
	Rule   Rule
}

func (s Served) String() string {
	return fmt.Sprintf("address %s of uplink %q is left to the foreign rule: %s", s.Addr, s.Uplink, s.Rule)
}

// findServed finds the addresses that foreign rules serve.
func (w *wanter) findServed() {
	for _, family := range fwmark.Families {
		rules := w.serving(family)
		if len(rules) == 0 || !w.facts.Families[family] {
			continue
		}
		for _, u := range w.uplinks {
			for _, a := range routableAddrs(u, family) {
				if r := rules.of(a); r != nil {
					w.served[a] = true
					w.out.Served = append(w.out.Served, Served{u.Name, a, *r})
				}
			}
		}
	}
}

// sourceRules are rules by the prefix that they select.
type sourceRules map[netip.Prefix]*Rule

// serving returns the foreign rules that have no other selector than a `from`
// longer than /0, and whose table leads everywhere by routes of others; but for
// the original shell script's, which ours replace. Behind a rule that leads
// everywhere whatever has no mark no rule is asked.
func (w *wanter) serving(family fwmark.Family) sourceRules {
	rules := sourceRules{}
	for i := range w.facts.Rules {
		r := &w.facts.Rules[i]
		if r.Family != family || r.Ours() || likeScriptLookup(*r) || r.Action != Lookup || r.Table == 0 {
			continue
		}
		from := r.From
		alone := *r
		alone.From = netip.Prefix{}
		// Which routes a rule passes over by their group is not looked at.
		if !w.tables.selectsAll(&alone) || r.SuppressesGroup || from.IsValid() && (r.Mark.Mask != 0 || r.Invert || r.To.IsValid()) || !w.tables.leadByOthers(r) {
			continue
		}
		switch {
		case from.IsValid() && from.Bits() > 0:
		case r.Invert && r.Mark.Value&r.Mark.Mask == 0: // not even what has no mark
			continue
		default:
			return rules
		}
		if rules[from] == nil {
			rules[from] = r
		}
	}
	return rules
}

// of returns the first rule that selects an address, nil where none does.
func (s sourceRules) of(a netip.Addr) (first *Rule) {
	for bits := 1; bits <= a.BitLen(); bits++ {
		p, _ := a.Prefix(bits) // it fails for a length that no address has
		if r := s[p]; r != nil && (first == nil || r.Priority < first.Priority) {
			first = r
		}
	}
	return first
}
