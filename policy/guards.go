package policy

import (
	"slices"

	"wg-multihome/fwmark"
)

// Guarded reports whether the unreachable of a mark stands, ours, in each
// family that the kernel has rules for: only then may anything carry the mark.
func Guarded(f Facts, m fwmark.Mark) bool {
	stands := guards(f, m, func(r *Rule) bool { return r.Ours() })
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
	return guards(f, m, func(*Rule) bool { return true })
}

// ScriptGuards reports whether others have made an unreachable of a mark in IPv4: the
// original shell script makes it there alone.
func ScriptGuards(f Facts, m fwmark.Mark) bool {
	return guards(f, m, func(r *Rule) bool { return !r.Ours() })[fwmark.IPv4]
}

func guards(f Facts, m fwmark.Mark, of func(*Rule) bool) (stands [2]bool) {
	for i := range f.Rules {
		r := &f.Rules[i]
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

// Standing returns the marks whose guards of ours stand in some family, each
// with the uplink that its look-up leads to.
func Standing(f Facts) []fwmark.Claim {
	leads := map[fwmark.Mark]string{}
	own := ownDefaults{routes: f.Routes}
	guarded := map[fwmark.Mark]bool{}
	for _, r := range f.Rules {
		if !r.Ours() || !r.marked() {
			continue
		}
		switch {
		case r.isUnreachable():
			guarded[r.Mark] = true
		case r.isLookup() && leads[r.Mark] == "":
			leads[r.Mark] = own.of(r.Family, r.Table).Device
		}
	}
	claims := make([]fwmark.Claim, 0, len(guarded))
	for m := range guarded {
		claims = append(claims, fwmark.Claim{Mark: m, Uplink: leads[m]})
	}
	slices.SortFunc(claims, func(a, b fwmark.Claim) int { return a.Mark.Compare(b.Mark) })
	return claims
}
