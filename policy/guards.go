package policy

import (
	"slices"

	"wg-multihome/fwmark"
)

// Guarded reports whether the unreachable of a mark stands, ours, in each
// family that the kernel has rules for: only then may anything carry the mark.
func Guarded(f Facts, m fwmark.Mark) bool {
	stands := guards(f, m, Rule.Ours)
	for _, family := range fwmark.Families {
		if f.Families[family] && !stands[family] {
			return false
		}
	}
	return true
}

// Guards reports, by family, whether an unreachable of a mark stands, whoever
// made it.
func Guards(f Facts, m fwmark.Mark) [2]bool {
	return guards(f, m, func(Rule) bool { return true })
}

func guards(f Facts, m fwmark.Mark, of func(Rule) bool) (stands [2]bool) {
	for _, r := range f.Rules {
		if r.Mark == m && r.marked() && r.isUnreachable() && of(r) {
			stands[r.Family] = true
		}
	}
	return stands
}

// NotMarks returns the marks that foreign rules name by `not fwmark`: those of
// full tunnels, whose rules wg-quick finds by their device's mark.
func NotMarks(f Facts) []uint32 {
	var marks []uint32
	for _, r := range f.Rules {
		if r.Invert && r.Mark.Mask != 0 && !r.Ours() {
			marks = append(marks, r.Mark.Value)
		}
	}
	slices.Sort(marks)
	return slices.Compact(marks)
}

// Routed reports, by family, whether a look-up of ours stands for a mark.
func Routed(f Facts, m fwmark.Mark) (stands [2]bool) {
	for _, r := range f.Rules {
		if r.Ours() && r.Mark == m && r.marked() && r.isLookup() {
			stands[r.Family] = true
		}
	}
	return stands
}

// Pair reports whether the step is about a rule of a pair, one that selects by
// source.
func (s Step) Pair() bool { return !s.IsRoute && s.Rule.sourced() }

// Reroutes returns the wanted marks whose packets a step gives another way: it
// adds their look-up, or the route that their look-up leads to.
func (w Wanted) Reroutes(s Step) []fwmark.Mark {
	if s.Op != Add {
		return nil
	}
	if !s.IsRoute {
		if s.Rule.marked() && s.Rule.isLookup() {
			return []fwmark.Mark{s.Rule.Mark}
		}
		return nil
	}
	var marks []fwmark.Mark
	for _, r := range w.State.Rules {
		if r.marked() && r.isLookup() && r.Family == s.Route.Family && r.Table == s.Route.Table {
			marks = append(marks, r.Mark)
		}
	}
	return marks
}
