package policy

import (
	"net/netip"
	"slices"

	"wg-multihome/fwmark"
)

// findScriptRules recognises the exact rules of the original shell script:
//
//   - of a configured mark its three rules, whose look-up leads to a table of
//     an IPv4 address;
//   - of an uplink's address its pair, unless another rule serves that address.
//
// iproute2 adds rules with protocol 0, newer versions may with boot (3). The
// script's rules count only where its look-up is among them. Those of a mark
// that is kept because the configuration has an error stay as they are.
//
// Few hosts have any, so that is what is asked first.
func (w *wanter) findScriptRules() {
	if len(w.facts.ScriptRules) == 0 && !slices.ContainsFunc(w.facts.Rules, likeScriptLookup) {
		return
	}
	l := scriptSearch{marks: map[fwmark.Mark]bool{}, addrs: map[netip.Addr]bool{}, found: map[selector]bool{}}
	for _, p := range w.pins {
		l.marks[p.Mark] = !p.Kept && !p.Full
	}
	for _, u := range w.uplinks {
		for _, a := range u.Addrs {
			l.addrs[a] = u.Routable(fwmark.FamilyOf(a)) && !w.served[a]
		}
	}
	for _, r := range w.facts.Rules {
		if s, ok := l.selector(r); ok && s.looksUp(r) {
			l.found[s] = true
		}
	}
	remembered := ruleSetOf(w.facts.ScriptRules)
	seen := otherRules{}
	for _, r := range w.facts.Rules {
		s, ok := l.selector(r)
		if ok && (l.found[s] || remembered.has(&r)) && s.wrote(r) && !seen.mayGoInPlaceOf(r) {
			w.scriptRules[r] = true
		} else if !r.Ours() {
			seen.add(r)
		}
	}
}

// likeScriptLookup reports whether a rule can be a look-up of the script, of
// whatever mark or address.
func likeScriptLookup(r Rule) bool {
	if r.Protocol != ProtocolUnspec && r.Protocol != ProtocolBoot || !r.isLookup() {
		return false
	}
	return r.marked() && selector{}.looksUp(r) || r.sourced() && selector{addr: r.From.Addr()}.looksUp(r)
}

// scriptSearch is what the script could have made rules for.
type scriptSearch struct {
	marks map[fwmark.Mark]bool
	addrs map[netip.Addr]bool
	found map[selector]bool // its look-up stands
}

// selector is what the rules of a block, or of a pair, have in common.
type selector struct {
	family fwmark.Family
	mark   fwmark.Mark
	addr   netip.Addr // invalid: the rules select by mark
}

func (l scriptSearch) selector(r Rule) (selector, bool) {
	switch {
	case r.Protocol != ProtocolUnspec && r.Protocol != ProtocolBoot:
	case r.marked() && l.marks[r.Mark]:
		return selector{family: r.Family, mark: r.Mark}, true
	case r.sourced() && l.addrs[r.From.Addr()]:
		return selector{family: r.Family, addr: r.From.Addr()}, true
	}
	return selector{}, false
}

// looksUp reports whether a rule is the script's look-up: of a source the one
// of its own table, of a mark one of any address's table.
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

// otherRules are foreign rules that have to stay. Deleting a rule of the
// script can delete one of them in its place: the kernel deletes the first
// rule that matches the request (fib_nl_delrule), and takes a protocol of 0,
// and each selector that the request does not have, for a wildcard.
//
// So each rule is noted as the request for a mark's rule would see it, without
// its source, and as the request for a source's rule would, without its mark.
type otherRules map[Rule]bool

func (o otherRules) add(r Rule) {
	o[byMark(r)], o[bySource(r)] = true, true
}

// mayGoInPlaceOf reports whether deleting r, a rule of the script, could delete
// one of the rules that were added: those in front of r.
func (o otherRules) mayGoInPlaceOf(r Rule) bool {
	if r.marked() {
		return o[byMark(r)]
	}
	return o[bySource(r)]
}

func byMark(r Rule) Rule {
	return Rule{Family: r.Family, Priority: r.Priority, Action: r.Action, Table: r.Table, Mark: r.Mark}
}

func bySource(r Rule) Rule {
	return Rule{Family: r.Family, Priority: r.Priority, Action: r.Action, Table: r.Table, From: r.From}
}
