package fwmark

import (
	"fmt"
	"net/netip"
	"slices"
)

// AgreePrefixes takes a prefix that two uplinks claim from both, and those of an
// uplink with options in two places from it: neither is what was meant. It
// returns the intents without them, and a problem for each prefix that is
// claimed twice. Of options in two places Resolve tells.
func AgreePrefixes(intents []Intent) ([]Intent, []Problem) {
	intents = slices.Clone(intents)
	first := map[string]int{}
	for i := range intents {
		if in := &intents[i]; in.Uplink != "" && in.Options() {
			j, twice := first[in.Uplink]
			if twice {
				intents[j].Through, intents[j].Sources = nil, nil
				in.Through, in.Sources = nil, nil
			} else {
				first[in.Uplink] = i
			}
		}
	}
	problems := agree(intents, "destination", func(i *Intent) *[]netip.Prefix { return &i.Through })
	return intents, append(problems, agree(intents, "source", func(i *Intent) *[]netip.Prefix { return &i.Sources })...)
}

func agree(intents []Intent, kind string, list func(*Intent) *[]netip.Prefix) (problems []Problem) {
	owner, twice := map[netip.Prefix]int{}, map[netip.Prefix]bool{}
	for i := range intents {
		for _, p := range *list(&intents[i]) {
			j, claimed := owner[p]
			if !claimed {
				owner[p] = i
				continue
			}
			twice[p] = true
			a, b := intents[j], intents[i]
			problems = append(problems, Problem{Text: fmt.Sprintf("%s prefix %s is claimed by uplink %q (%s) and by uplink %q (%s)", kind, p, a.Uplink, a.Origin, b.Uplink, b.Origin)})
		}
	}
	if len(twice) == 0 {
		return nil
	}
	for i := range intents {
		l := list(&intents[i])
		*l = slices.DeleteFunc(slices.Clone(*l), func(p netip.Prefix) bool { return twice[p] })
	}
	return problems
}
