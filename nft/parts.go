package nft

import (
	"maps"
	"slices"
	"strings"
)

// Part is a part of the table that stands by itself: nothing in it leads to
// another one.
type Part uint8

// The parts, in the order in which they matter. What is none of ours belongs
// to the lock.
const (
	LockPart Part = iota
	RenewalsPart
	ServicesPart
)

// Parts lists them.
var Parts = [...]Part{LockPart, RenewalsPart, ServicesPart}

// partOf tells by the name of a chain, a set or a counter.
func partOf(name string) Part {
	switch name {
	case renewalsChain:
		return RenewalsPart
	case marking, answersChain, arrivalsChain, straysChain, sourcesChain, OtherMarks, Unforgotten:
		return ServicesPart
	}
	for _, prefix := range []string{pinPrefix, publicPrefix, pathsPrefix, reachPrefix, answerPrefix, askingPrefix, askedPrefix, latePrefix, guessedPrefix, sourcePrefix} {
		if strings.HasPrefix(name, prefix) {
			return ServicesPart
		}
	}
	return LockPart
}

// Only returns one part of what is wanted. The lock alone asks nothing of
// connections: what that takes the kernel may lack.
func (r Ruleset) Only(p Part) Ruleset {
	r.Counters, r.Sets, r.Chains = slices.Clone(r.Counters), slices.Clone(r.Sets), slices.Clone(r.Chains)
	r.Counters = slices.DeleteFunc(r.Counters, func(name string) bool { return partOf(name) != p })
	r.Sets = slices.DeleteFunc(r.Sets, func(s Set) bool { return partOf(s.Name) != p })
	r.Chains = slices.DeleteFunc(r.Chains, func(c Chain) bool { return partOf(c.Name) != p })
	if p == LockPart {
		for i, c := range r.Chains {
			r.Chains[i].Rules = slices.DeleteFunc(slices.Clone(c.Rules), Rule.asksConnections)
			if c.Name == lockName && len(r.Chains[i].Rules) < len(c.Rules) {
				r.Chains[i].Rules = slices.Insert(r.Chains[i].Rules, 0, unmarkedPass)
			}
		}
	}
	return r
}

// asksConnections reports whether a rule asks conntrack.
func (r Rule) asksConnections() bool {
	return slices.ContainsFunc(r, func(e Expr) bool {
		return slices.Contains([]Kind{CtMark, Confirmed, Established, Invalid, Original, Reply}, e.Kind)
	})
}

// Only returns one part of what stands.
func (s State) Only(p Part) State {
	s.Counters, s.Sets, s.Chains = maps.Clone(s.Counters), maps.Clone(s.Sets), maps.Clone(s.Chains)
	maps.DeleteFunc(s.Counters, func(name string, _ uint64) bool { return partOf(name) != p })
	maps.DeleteFunc(s.Sets, func(name string, _ Set) bool { return partOf(name) != p })
	maps.DeleteFunc(s.Chains, func(name string, _ ChainState) bool { return partOf(name) != p })
	return s
}

// Diff is like the function of that name, and lets the other parts be.
func (p Part) Diff(have State, want Ruleset, names map[uint64]string) Plan {
	plan := Plan{Want: want.Only(p)}
	plan.changes(have.Only(p), plan.Want, names)
	return plan
}
