package policy

import (
	"slices"

	"wg-multihome/fwmark"
)

// Open returns the steps that add rules and routes, in this order:
//
//  1. deletions of rules that pass over another link group than the wanted one: they
//     would let through what leaves their group;
//  2. link groups; behind 5 where 4 has something to do, as what main's routes
//     through a link have led by the right uplink would go by a wrong look-up;
//  3. every missing unreachable, and those that guard marks while rules move
//     (see interimGuards);
//  4. deletions of rules that lead packets by a wrong uplink (see
//     deleteMisleading), and of routes that do (see deleteMisplaced). Adding the
//     right ones first would leak until these go;
//  5. routes;
//  6. look-ups of the local table, suppress rules and look-ups of marks, then pairs;
//  7. deletions of suppress rules of earlier versions, which pass over no group:
//     those that replace them stand by then.
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
	steps = append(steps, deleteOtherGroups(have, want)...)
	groups := setGroups(have, want)
	misleading := append(deleteMisleading(have, want, stands), deleteMisplaced(have, want)...)
	if len(misleading) == 0 {
		steps = append(steps, groups...)
	}
	add((*Rule).isUnreachable)
	steps = append(steps, interimGuards(have, want)...)
	steps = append(steps, misleading...)
	for _, r := range routes {
		steps = append(steps, Step{Op: Add, IsRoute: true, Route: *r})
	}
	if len(misleading) > 0 {
		steps = append(steps, groups...)
	}
	add((*Rule).isLocal)
	add(func(r *Rule) bool { return r.marked() && r.isSuppress() })
	add(func(r *Rule) bool { return r.marked() && r.isLookup() })
	add(func(r *Rule) bool { return r.sourced() && r.isSuppress() })
	add(func(r *Rule) bool { return r.sourced() && r.isLookup() })
	return append(steps, deleteUngrouped(have, want)...)
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

// deleteOtherGroups returns the deletions of rules that pass over another link
// group than the wanted one. Links cannot be in both, and until the new rules
// stand what those led goes by the look-ups behind them.
func deleteOtherGroups(have, want State) []Step {
	var steps []Step
	if len(want.Rules) == 0 {
		return nil
	}
	wanted := map[uint32]bool{}
	for i := range want.Rules {
		if r := &want.Rules[i]; r.SuppressesGroup {
			wanted[r.SuppressGroup] = true
		}
	}
	for i := range have.Rules {
		if r := &have.Rules[i]; r.SuppressesGroup && !wanted[r.SuppressGroup] {
			steps = append(steps, Step{Op: Delete, Rule: *r})
		}
	}
	return steps
}

// deleteUngrouped returns the deletions of suppress rules of ours without a group,
// those of marks that go as well: what they let through is no longer wanted, and
// nothing may get a mark before. Where such a rule stands behind the one that
// replaces it, at the same priority, the kernel deletes that one (see Rule), and
// another round mends it: what is left leads as much as both did.
func deleteUngrouped(have, want State) []Step {
	if !slices.ContainsFunc(want.Rules, func(r Rule) bool { return r.SuppressesGroup }) {
		return nil
	}
	var steps []Step
	for i := range have.Rules {
		if r := &have.Rules[i]; r.Ours() && r.isSuppress() && !r.SuppressesGroup {
			steps = append(steps, Step{Op: Delete, Rule: *r})
		}
	}
	return steps
}

// deleteMisplaced returns the deletions of longer routes, of tables that are
// wanted, through another device than the table's: of an uplink that it was of
// before.
func deleteMisplaced(have, want State) []Step {
	longer := func(r Route) bool { return !r.isDefault() }
	if !slices.ContainsFunc(have.Routes, longer) {
		return nil
	}
	device := map[tableKey]string{}
	for i := range want.Routes {
		if r := &want.Routes[i]; r.isDefault() {
			device[r.tableKey()] = r.Device
		}
	}
	wanted := routeTablesOf(want.Routes)
	var steps []Step
	for i := range have.Routes {
		r := &have.Routes[i]
		if d, is := device[r.tableKey()]; is && d != r.Device && !r.isDefault() && !wanted.have(r) {
			steps = append(steps, Step{Op: Delete, IsRoute: true, Route: *r})
		}
	}
	return steps
}

// deleteMisleading returns the deletions of rules that lead, or are about to
// lead, packets by another uplink than their mark's: look-ups of a wrong table.
//
// They go from the last one on: the first one may lead a packet before one behind
// it gets it.
func deleteMisleading(have, want State, stands routeTables) []Step {
	t := markTables{
		wanted: map[markKey]uint32{}, marks: map[fwmark.Family][]fwmark.Mark{},
		have: stands, want: want.Routes,
	}
	for _, r := range want.Rules {
		switch {
		case r.marked() && r.isLookup():
			t.wanted[markKey{r.Family, r.Mark}] = r.Table
		case r.marked() && r.isUnreachable():
			t.marks[r.Family] = append(t.marks[r.Family], r.Mark)
		}
	}
	var lookups []Step
	for _, r := range have.Rules {
		if r.marked() && r.isLookup() && t.misleads(r) {
			lookups = append(lookups, Step{Op: Delete, Rule: r})
		}
	}
	slices.Reverse(lookups)
	return lookups
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
		if next := &t.want[i]; next.isDefault() && next.tableKey() == k {
			return !t.have.leadThrough(k, next.Device)
		}
	}
	return false
}
