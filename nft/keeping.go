package nft

import (
	"maps"
	"slices"
	"strings"
)

// Keeping returns a ruleset like r, in which cgroups that go from one mark's set to
// another's are in both, and whether there are any. A packet goes by the rules that it
// began with, and by the elements that stand when it comes to a set
// (nft_do_chain, nft_set_elem_active): one that is on its way when a cgroup goes from
// the one set to the other finds it in neither, and a connection that is begun so has
// no mark for as long as it lives.
func (r Ruleset) Keeping(have State) (both Ruleset, moves bool) {
	var pinned []uint64
	for _, s := range r.Sets {
		pinned = append(pinned, s.Cgroups...)
	}
	r.Sets = slices.Clone(r.Sets)
	for _, name := range slices.Sorted(maps.Keys(have.Sets)) {
		if have.Sets[name].Type != Cgroups || strings.HasPrefix(name, publicPrefix) {
			continue
		}
		i := slices.IndexFunc(r.Sets, func(s Set) bool { return s.Name == name })
		var wanted []uint64
		if i >= 0 {
			wanted = r.Sets[i].Cgroups
		}
		moving := slices.DeleteFunc(missing(have.Sets[name].Cgroups, wanted), func(id uint64) bool { return !slices.Contains(pinned, id) })
		if len(moving) == 0 {
			continue
		}
		moves = true
		if i < 0 {
			r.Sets = append(r.Sets, Set{Name: name, Type: Cgroups})
			i = len(r.Sets) - 1
		}
		r.Sets[i].Cgroups = sortedIDs(slices.Concat(wanted, moving))
	}
	return r, moves
}
