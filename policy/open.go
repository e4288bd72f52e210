package policy

import (
	"math"
	"slices"

	"wg-multihome/fwmark"
)

// markKey is a mark in a family.
type markKey struct {
	family fwmark.Family
	mark   fwmark.Mark
}

// bridge guards marks while pairs stand in front of their own unreachable:
//
//   - marks that are wanted, behind old pairs (B moved back, or the original
//     shell script's pairs stand in front), until those are gone;
//   - marks that go, behind old pairs or new ones (B moved forward), until
//     nothing carries the mark any more.
//
// It does so by an unreachable at the first pair's preference less one, which
// is obsolete from the start, and goes with the blocks.
func bridge(have, want State) []Step {
	var steps []Step
	for _, family := range fwmark.Families {
		add := func(m fwmark.Mark, front uint32) {
			if front > 0 {
				steps = append(steps, Step{Op: Add, Rule: unreachableRule(family, front-1, m)})
			}
		}
		old, guarded := inFront(have.Rules, family)
		front, _ := inFront(want.Rules, family)
		wanted := map[fwmark.Mark]bool{}
		for _, r := range want.Rules {
			if r.Family == family && r.marked() && r.isUnreachable() {
				wanted[r.Mark] = true
				if r.Priority >= old && !guarded[r.Mark] {
					add(r.Mark, old)
				}
			}
		}
		for _, g := range firstGuards(have.Rules, family) {
			switch {
			case wanted[g.mark]:
			case front < old && g.first > front:
				add(g.mark, front)
			case front >= old && !guarded[g.mark]:
				add(g.mark, old)
			}
		}
	}
	return steps
}

// noPair is behind every preference.
const noPair = math.MaxUint32

// inFront returns the preference of a family's first pair, or noPair, and the
// marks whose unreachable is asked before it. rules are in the order in which
// the kernel asks them.
func inFront(rules []Rule, family fwmark.Family) (front uint32, guarded map[fwmark.Mark]bool) {
	front, guarded = noPair, map[fwmark.Mark]bool{}
	for _, r := range rules {
		if r.Family == family && r.sourced() {
			front = min(front, r.Priority)
		}
	}
	for _, r := range rules {
		switch {
		case r.Family != family || r.Priority > front:
		case r.sourced() && r.Priority == front:
			return front, guarded
		case r.marked() && r.isUnreachable():
			guarded[r.Mark] = true
		}
	}
	return front, guarded
}

// guard is a mark with the preference of its first unreachable.
type guard struct {
	mark  fwmark.Mark
	first uint32
}

func firstGuards(rules []Rule, family fwmark.Family) []guard {
	at := map[fwmark.Mark]int{}
	var list []guard
	for _, r := range rules {
		if r.Family != family || !r.marked() || !r.isUnreachable() {
			continue
		}
		i, seen := at[r.Mark]
		if !seen {
			at[r.Mark] = len(list)
			list = append(list, guard{r.Mark, r.Priority})
			continue
		}
		list[i].first = min(list[i].first, r.Priority)
	}
	return list
}

// tooWide returns the deletions of what lets too much through.
func tooWide(have, want State) []Step {
	w := wide{tables: map[markKey]uint32{}, marks: map[fwmark.Family][]fwmark.Mark{}, stands: routesByTable(have.Routes), comes: routesByTable(want.Routes)}
	length := map[fwmark.Family]uint32{}
	for _, r := range want.Rules {
		switch {
		case r.marked() && r.isLookup():
			w.tables[markKey{r.Family, r.Mark}] = r.Table
		case r.marked() && r.isUnreachable():
			w.marks[r.Family] = append(w.marks[r.Family], r.Mark)
		}
		if r.isSuppress() {
			length[r.Family] = max(length[r.Family], r.Suppress)
		}
	}
	// Look-ups first: a suppress rule that is too short may have kept packets
	// from a wrong one. And from the last one on: a look-up in front may have.
	var steps, short []Step
	for _, r := range have.Rules {
		switch {
		case r.marked() && r.isLookup() && w.leadsAstray(r):
			steps = append(steps, Step{Op: Delete, Rule: r})
		case r.isSuppress() && r.Suppress < length[r.Family]:
			short = append(short, Step{Op: Delete, Rule: r})
		}
	}
	slices.Reverse(steps)
	return append(steps, short...)
}

type wide struct {
	tables        map[markKey]uint32 // of the look-up that each wanted mark should have
	marks         map[fwmark.Family][]fwmark.Mark
	stands, comes map[tableKey][]Route
}

// leadsAstray reports whether a look-up leads packets of a wanted mark to a
// table that is not that mark's; or, of a mark that goes, to a table that is
// about to lead through another interface than it does.
func (w wide) leadsAstray(r Rule) bool {
	for _, m := range w.marks[r.Family] {
		if r.Mark == m {
			return r.Table != w.tables[markKey{r.Family, m}]
		}
	}
	for _, m := range w.marks[r.Family] {
		if r.Mark.Overlaps(m) && r.Table != w.tables[markKey{r.Family, m}] {
			return true
		}
	}
	k := tableKey{r.Family, r.Table}
	comes := w.comes[k]
	return len(comes) > 0 && !slices.ContainsFunc(w.stands[k], func(now Route) bool { return now.Device == comes[0].Device })
}
