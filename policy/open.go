package policy

import (
	"slices"

	"wg-multihome/fwmark"
)

// Open returns the steps that add rules and routes, in this order:
//
//  1. every missing unreachable, and those that guard marks while rules move
//     (see interimGuards);
//  2. deletions of rules that lead packets by a wrong uplink (see
//     deleteMisleading). Adding the right ones first would leak until these go;
//  3. routes;
//  4. suppress rules and look-ups of marks, then pairs.
func Open(have, want State) []Step {
	rules := missingOf(want.Rules, ruleSetOf(have.Rules).has)
	stands := routeTablesOf(have.Routes)
	routes := missingOf(want.Routes, stands.have)
	steps := make([]Step, 0, len(rules)+len(routes))
	add := func(of func(*Rule) bool) {
		for _, r := range rules {
			if of(r) {
				steps = append(steps, Step{Op: Add, Rule: *r})
			}
		}
	}
	add((*Rule).isUnreachable)
	steps = append(steps, interimGuards(have, want)...)
	steps = append(steps, deleteMisleading(have, want, stands)...)
	for _, r := range routes {
		steps = append(steps, Step{Op: Add, IsRoute: true, Route: *r})
	}
	add(func(r *Rule) bool { return r.marked() && r.isSuppress() })
	add(func(r *Rule) bool { return r.marked() && r.isLookup() })
	add(func(r *Rule) bool { return r.sourced() && r.isSuppress() })
	add(func(r *Rule) bool { return r.sourced() && r.isLookup() })
	return steps
}

// missingOf returns those that are wanted and do not stand.
func missingOf[T any](want []T, stands func(*T) bool) []*T {
	var missing []*T
	for i := range want {
		if !stands(&want[i]) {
			missing = append(missing, &want[i])
		}
	}
	return missing
}

// deleteMisleading returns the deletions of rules that lead, or are about to
// lead, packets by another uplink than their mark's: look-ups of a wrong table,
// and suppress rules whose prefix length is too short now.
//
// The look-ups go first: a suppress rule, even one that is too short, may lead a
// packet before a wrong look-up gets it. They go from the last one on, as the
// first one may do the same to those behind it.
func deleteMisleading(have, want State, stands routeTables) []Step {
	t := markTables{
		wanted: map[markKey]uint32{}, marks: map[fwmark.Family][]fwmark.Mark{},
		have: stands, want: want.Routes,
	}
	length := map[fwmark.Family]uint32{}
	for _, r := range want.Rules {
		switch {
		case r.marked() && r.isLookup():
			t.wanted[markKey{r.Family, r.Mark}] = r.Table
		case r.marked() && r.isUnreachable():
			t.marks[r.Family] = append(t.marks[r.Family], r.Mark)
		}
		if r.isSuppress() {
			length[r.Family] = max(length[r.Family], r.Suppress)
		}
	}
	var lookups, suppress []Step
	for _, r := range have.Rules {
		switch {
		case r.marked() && r.isLookup() && t.misleads(r):
			lookups = append(lookups, Step{Op: Delete, Rule: r})
		case r.isSuppress() && r.Suppress < length[r.Family]:
			suppress = append(suppress, Step{Op: Delete, Rule: r})
		}
	}
	slices.Reverse(lookups)
	return append(lookups, suppress...)
}

// markKey is a mark in a family.
type markKey struct {
	family fwmark.Family
	mark   fwmark.Mark
}

// markTables are the tables that marks are to look up, and the routes there.
type markTables struct {
	wanted map[markKey]uint32 // 0: the mark has no look-up
	marks  map[fwmark.Family][]fwmark.Mark
	have   routeTables
	want   []Route
}

// misleads reports whether a look-up leads packets of a wanted mark to a table
// that is not that mark's. Of a mark that is not wanted any more, it misleads
// when its table is about to lead through another device than now.
func (t markTables) misleads(r Rule) bool {
	for _, m := range t.marks[r.Family] {
		if r.Mark == m {
			return r.Table != t.wanted[markKey{r.Family, m}]
		}
	}
	for _, m := range t.marks[r.Family] {
		if r.Mark.Overlaps(m) && r.Table != t.wanted[markKey{r.Family, m}] {
			return true
		}
	}
	k := tableKey{r.Family, r.Table}
	for i := range t.want {
		if next := &t.want[i]; next.tableKey() == k {
			return !t.have.leadThrough(k, next.Device)
		}
	}
	return false
}
