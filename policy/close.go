package policy

import (
	"slices"

	"wg-multihome/fwmark"
)

// Close returns the steps that delete, from what stands after Open, in this
// order:
//
//  5. pairs that are not wanted;
//  6. of marks that stay, the rules that are not wanted: unreachable, look-up,
//     suppress;
//  7. of marks that go, all rules: look-up, suppress, unreachable. Those of held
//     marks, which something still carries, stay;
//  8. routes that are not wanted.
//
// Pairs go before the rules of marks (5 before 6) because our rules may have
// moved by a few priorities only. An old pair can then stand in front of a
// mark's new unreachable, and only the old one keeps the mark's packets from it.
//
// Where a step of Open has failed, 5 and 6 delete less. A rule stays while the
// wanted rule that replaces it is missing. The old rules of a mark also stay
// while an old pair has to stay in front of the mark's new unreachable.
func Close(have, want State, held []fwmark.Mark) []Step {
	c := closer{want: ruleSet(want.Rules), have: ruleSet(have.Rules), successors: map[Rule]Rule{}}
	pinned, kept := map[fwmark.Mark]bool{}, map[fwmark.Mark]bool{}
	for _, r := range want.Rules {
		c.successors[withoutPlace(r)] = r
		if r.marked() {
			pinned[r.Mark] = true
		}
	}
	for _, m := range held {
		kept[m] = true
	}
	stays := func(r Rule) bool { return r.marked() && pinned[r.Mark] }
	goes := func(r Rule) bool { return r.marked() && !pinned[r.Mark] && !kept[r.Mark] }
	pair := func(r Rule) bool { return !r.marked() }
	and := func(of func(Rule) bool, role func(Rule) bool) func(Rule) bool {
		return func(r Rule) bool { return of(r) && role(r) }
	}
	c.remove(have.Rules, and(pair, Rule.isLookup))
	c.remove(have.Rules, and(pair, func(r Rule) bool { return !r.isLookup() }))
	stays = and(stays, c.unneeded(have, want))
	for _, of := range []func(Rule) bool{
		and(stays, Rule.isUnreachable), and(stays, Rule.isLookup), and(stays, other),
		and(goes, Rule.isLookup), and(goes, other), and(goes, Rule.isUnreachable),
	} {
		c.remove(have.Rules, of)
	}
	return append(c.steps, obsoleteRoutes(have, want)...)
}

func other(r Rule) bool { return !r.isLookup() && !r.isUnreachable() }

type closer struct {
	want, have map[Rule]bool
	successors map[Rule]Rule // wanted rules, by withoutPlace
	steps      []Step
}

// remove deletes those rules that are not wanted, and that no missing rule is
// to replace.
func (c *closer) remove(rules []Rule, of func(Rule) bool) {
	for _, r := range rules {
		if c.want[r] || !of(r) {
			continue
		}
		successor, replaced := c.successors[withoutPlace(r)]
		if replaced && !c.have[successor] {
			continue
		}
		// The script's pair goes only when ours stands in its place.
		if !replaced && !r.Ours() && !r.marked() {
			continue
		}
		c.steps = append(c.steps, Step{Op: Delete, Rule: r})
	}
}

// unneeded returns whether an old rule of a mark that stays may go: not while an
// old pair has to stay in front of the mark's new unreachable.
func (c *closer) unneeded(have, want State) func(Rule) bool {
	going := map[Rule]bool{}
	for _, s := range c.steps {
		going[s.Rule] = true
	}
	oldPair := map[fwmark.Family]uint32{} // the first one that stays
	for _, r := range have.Rules {
		if first, any := oldPair[r.Family]; r.sourced() && !c.want[r] && !going[r] && (!any || r.Priority < first) {
			oldPair[r.Family] = r.Priority
		}
	}
	guard := map[markKey]uint32{}
	for _, r := range want.Rules {
		if r.marked() && r.isUnreachable() {
			guard[markKey{r.Family, r.Mark}] = r.Priority
		}
	}
	return func(r Rule) bool {
		first, any := oldPair[r.Family]
		return !any || first > guard[markKey{r.Family, r.Mark}]
	}
}

// withoutPlace returns what a rule has in common with the one that replaces it:
// all but its priority, its protocol and the length that it suppresses.
func withoutPlace(r Rule) Rule {
	r.Priority, r.Protocol = 0, 0
	if r.isSuppress() {
		r.Suppress = 0
	}
	return r
}

func obsoleteRoutes(have, want State) []Step {
	wanted, stands := routesByTable(want.Routes), routesByTable(have.Routes)
	var steps []Step
	for _, r := range have.Routes {
		k := tableKey{r.Family, r.Table}
		// What a wanted route will replace stays until that one stands.
		coming := func(w Route) bool { return r.replacedBy(w) && !slices.ContainsFunc(stands[k], w.same) }
		if slices.ContainsFunc(wanted[k], r.same) || slices.ContainsFunc(wanted[k], coming) {
			continue
		}
		steps = append(steps, Step{Op: Delete, IsRoute: true, Route: r})
	}
	return steps
}
