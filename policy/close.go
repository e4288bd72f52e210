package policy

import "wg-multihome/fwmark"

// Close returns the steps that delete, from what stands after Open, in this
// order:
//
//  5. pairs that are not wanted;
//  6. of marks that stay, the rules that are not wanted: unreachable, look-up,
//     suppress;
//  7. of marks that go, all rules: look-up, suppress, unreachable. Those of held
//     marks, which something still carries, stay;
//  8. routes that are not wanted;
//  9. link groups, once no rule is left that needs them.
//
// Pairs go before the rules of marks (5 before 6) because our rules may have
// moved by a few priorities only. An old pair can then stand in front of a
// mark's new unreachable, and only the old one keeps the mark's packets from it.
//
// Where a step of Open has failed, 5 and 6 delete less. A rule stays while the
// wanted rule that replaces it is missing. The old rules of a mark also stay
// while an old pair has to stay in front of the mark's new unreachable.
func Close(have, want State, held []fwmark.Mark) []Step {
	last := append(obsoleteRoutes(have, want), resetGroups(have, want)...)
	if len(have.Rules) == 0 {
		return last
	}
	c := closer{want: ruleSetOf(want.Rules)}
	old := missingOf(have.Rules, c.want.has) // no longer wanted
	if len(old) == 0 {
		return last
	}
	c.grouped = groupsStand(have, want)
	c.have = ruleSetOf(have.Rules)
	c.successors = indexOf(want.Rules, (*Rule).successorKey)
	pinned, kept := map[fwmark.Mark]bool{}, map[fwmark.Mark]bool{}
	for i := range want.Rules {
		if r := &want.Rules[i]; r.marked() {
			pinned[r.Mark] = true
		}
	}
	for _, m := range held {
		kept[m] = true
	}
	stays := func(r *Rule) bool { return r.marked() && pinned[r.Mark] }
	goes := func(r *Rule) bool { return r.marked() && !pinned[r.Mark] && !kept[r.Mark] }
	pair := func(r *Rule) bool { return !r.marked() }
	and := func(of func(*Rule) bool, role func(*Rule) bool) func(*Rule) bool {
		return func(r *Rule) bool { return of(r) && role(r) }
	}
	old = c.remove(old, and(pair, (*Rule).isLookup))
	old = c.remove(old, and(pair, func(r *Rule) bool { return !r.isLookup() }))
	stays = and(stays, c.unneeded(old))
	for _, of := range []func(*Rule) bool{
		and(stays, (*Rule).isUnreachable), and(stays, (*Rule).isLookup), and(stays, other),
		and(goes, (*Rule).isLookup), and(goes, other), and(goes, (*Rule).isUnreachable),
	} {
		old = c.remove(old, of)
	}
	return append(c.steps, last...)
}

func other(r *Rule) bool { return !r.isLookup() && !r.isUnreachable() }

type closer struct {
	want, have ruleSet
	successors index[ruleKey] // of the wanted rules, by withoutPlace
	grouped    bool           // the links that rules are to pass over are in their group
	steps      []Step
}

// remove deletes those of the old rules that no missing rule is to replace, and
// returns the others.
func (c *closer) remove(old []*Rule, of func(*Rule) bool) (left []*Rule) {
	for _, r := range old {
		if of(r) && c.mayGo(r) {
			c.steps = append(c.steps, Step{Op: Delete, Rule: *r})
		} else {
			left = append(left, r)
		}
	}
	return left
}

func (c *closer) mayGo(old *Rule) bool {
	if successor := c.successor(old); successor != nil {
		return c.have.has(successor) && (c.grouped || !old.isSuppress())
	}
	// The script's pair goes only when ours stands in its place.
	return old.Ours() || old.marked()
}

// successor returns the wanted rule that replaces an old one, the last of
// several; nil: none does.
func (c *closer) successor(old *Rule) (successor *Rule) {
	alike := old.withoutPlace()
	for i := range c.successors.places(old.successorKey()) {
		if r := &c.want.rules[i]; r.withoutPlace() == alike {
			successor = r
		}
	}
	return successor
}

// unneeded returns whether an old rule of a mark that stays may go: not while an
// old pair has to stay in front of the mark's new unreachable.
func (c *closer) unneeded(old []*Rule) func(*Rule) bool {
	oldPair := map[fwmark.Family]uint32{} // the first one that stays
	for _, r := range old {
		if first, any := oldPair[r.Family]; r.sourced() && (!any || r.Priority < first) {
			oldPair[r.Family] = r.Priority
		}
	}
	guard := map[markKey]uint32{}
	for i := range c.want.rules {
		if r := &c.want.rules[i]; r.marked() && r.isUnreachable() {
			guard[markKey{r.Family, r.Mark}] = r.Priority
		}
	}
	return func(r *Rule) bool {
		first, any := oldPair[r.Family]
		return !any || first > guard[markKey{r.Family, r.Mark}]
	}
}

// withoutPlace returns what a rule has in common with the one that replaces it:
// all but its priority, its protocol and what it suppresses. Suppress rules of
// earlier versions had no group, and length 1 where main had two /1 routes.
func (r *Rule) withoutPlace() Rule {
	w := *r
	w.Priority, w.Protocol = 0, 0
	if w.isSuppress() {
		w.Suppress, w.SuppressesGroup, w.SuppressGroup = 0, false, 0
	}
	return w
}

func (r *Rule) successorKey() ruleKey {
	w := r.withoutPlace()
	return w.key()
}

func obsoleteRoutes(have, want State) []Step {
	if len(have.Routes) == 0 {
		return nil
	}
	wanted := routeTablesOf(want.Routes)
	old := missingOf(have.Routes, wanted.have)
	if len(old) == 0 {
		return nil
	}
	stands := routeTablesOf(have.Routes)
	var steps []Step
	for _, r := range old {
		coming := false // what a wanted route will replace stays until that one stands
		for w := range wanted.of(r.slotKey()) {
			coming = coming || r.replacedBy(*w) && !stands.have(w)
		}
		if !coming {
			steps = append(steps, Step{Op: Delete, IsRoute: true, Route: *r})
		}
	}
	return steps
}
