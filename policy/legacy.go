package policy

import (
	"net/netip"

	"wg-multihome/fwmark"
)

// findLegacy recognises the exact objects of the original shell script: of a
// configured mark the three rules, whose look-up leads to a table of an
// address; of an uplink's address the pair. iproute2 gives rules protocol 0
// (newer ones may say boot, 3). What a mark of a broken configuration has
// stays as it is.
func (w *wanter) findLegacy() {
	l := legacy{marks: map[fwmark.Mark]bool{}, addrs: map[netip.Addr]bool{}, script: map[selector]bool{}}
	for _, p := range w.pins {
		l.marks[p.Mark] = !p.Kept && !p.Full
	}
	for _, u := range w.uplinks {
		for _, a := range u.Addrs {
			l.addrs[a] = u.Routable(fwmark.FamilyOf(a))
		}
	}
	for _, r := range w.facts.Rules {
		if s, ok := l.selector(r); ok && s.looksUp(r) {
			l.script[s] = true
		}
	}
	remembered := ruleSet(w.facts.Taken)
	seen := strangers{}
	for _, r := range w.facts.Rules {
		s, ok := l.selector(r)
		if ok && (l.script[s] || remembered[r]) && s.wrote(r) && !seen.shadow(r) {
			w.taken[r] = true
		} else if !r.Ours() {
			seen.add(r)
		}
	}
}

// legacy is what the script could have made rules for, and what it has.
type legacy struct {
	marks  map[fwmark.Mark]bool
	addrs  map[netip.Addr]bool
	script map[selector]bool
}

// selector is what the rules of a block, or of a pair, have in common.
type selector struct {
	family fwmark.Family
	mark   fwmark.Mark
	addr   netip.Addr // invalid: it is a mark's
}

func (l legacy) selector(r Rule) (selector, bool) {
	switch {
	case r.Protocol != 0 && r.Protocol != protocolBoot:
	case r.marked() && l.marks[r.Mark]:
		return selector{family: r.Family, mark: r.Mark}, true
	case r.sourced() && l.addrs[r.From.Addr()]:
		return selector{family: r.Family, addr: r.From.Addr()}, true
	}
	return selector{}, false
}

// looksUp reports whether a rule is the script's look-up: of a source the one
// of its own table, of a mark one of any address.
func (s selector) looksUp(r Rule) bool {
	if !s.addr.IsValid() {
		return r.isLookup() && r.Table >= 1<<24
	}
	return r.isLookup() && r.Table == TableOf(s.addr)
}

// wrote reports whether a rule is exactly as the script writes them.
func (s selector) wrote(r Rule) bool {
	return r.isSuppress() && r.Suppress == 0 || r.isUnreachable() && !s.addr.IsValid() || s.looksUp(r)
}

// strangers are rules that are neither ours nor taken over, by what a deletion
// tells of them: of a mark's rule it does not tell the source, nor of a source's
// rule the mark.
type strangers map[Rule]bool

func (s strangers) add(r Rule) {
	s[byMark(r)], s[bySource(r)] = true, true
}

// shadow reports whether deleting r could hit a stranger that was seen before
// it: a protocol of 0 is a wildcard to the kernel, as is every selector that r
// does not have, and of several that match the first one goes (fib_nl_delrule).
func (s strangers) shadow(r Rule) bool {
	if r.marked() {
		return s[byMark(r)]
	}
	return s[bySource(r)]
}

func byMark(r Rule) Rule {
	return Rule{Family: r.Family, Priority: r.Priority, Action: r.Action, Table: r.Table, Mark: r.Mark}
}

func bySource(r Rule) Rule {
	return Rule{Family: r.Family, Priority: r.Priority, Action: r.Action, Table: r.Table, From: r.From}
}
