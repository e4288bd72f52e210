package nft

import (
	"strings"

	"wg-multihome/fwmark"
)

// After returns what stands once have was changed to want, as reading the table
// would tell: counters go on, and so do elements that others have put into a
// public set.
func After(have State, want Ruleset) State {
	after := State{Counters: map[string]uint64{}, Sets: map[string]Set{}, Chains: map[string]ChainState{}}
	if want.Empty() {
		return after
	}
	after.Exists = true
	for _, name := range want.Counters {
		after.Counters[name] = have.Counters[name]
	}
	for _, s := range want.Sets {
		if now, stands := have.Sets[s.Name]; stands && s.Public && now.Type == s.Type {
			s = now
		}
		s.Public = false // which the kernel does not know
		after.Sets[s.Name] = s
	}
	for _, c := range want.Chains {
		after.Chains[c.Name] = stateOf(c)
	}
	return after
}

// stateOf returns a chain as it will be read.
func stateOf(c Chain) ChainState {
	state := ChainState{Base: c.Base, Fingerprints: []string{}}
	for _, r := range c.Rules {
		state.Fingerprints = append(state.Fingerprints, r.Fingerprint())
		if len(r) > 0 && r[0].Kind == OutDevice {
			state.Devices = append(state.Devices, r[0].Name)
		}
	}
	return state
}

// MarksConnections reports whether the part that gives connections their marks
// stands.
func (s State) MarksConnections() bool { return s.Chains[marking].Fingerprints != nil }

// Paths returns the ids of the cgroups that the sets of configured cgroups
// hold, sorted, each once.
func (s State) Paths() []uint64 { return s.inSets(pathsPrefix) }

// Left returns the marks of the second lock that connections may have and that no
// new one gets.
func (s State) Left() (marks []fwmark.Mark) {
	for _, c := range s.Claims() {
		_, paths := s.Sets[PathsSet(c.Mark)]
		_, gives := s.Sets[MarkSet(c.Mark)]
		if paths && !gives {
			marks = append(marks, c.Mark)
		}
	}
	return marks
}

// PublicElements returns the cgroups that others have put into marks' sets, sorted.
func (s State) PublicElements() []uint64 { return s.inSets(publicPrefix) }

func (s State) inSets(prefix string) []uint64 {
	var ids []uint64
	for name, set := range s.Sets {
		if strings.HasPrefix(name, prefix) {
			ids = append(ids, set.Cgroups...)
		}
	}
	return sortedIDs(ids)
}

// ConnectionBits returns all bits of the marks that connections get.
func (r Ruleset) ConnectionBits() (bits uint32) {
	for _, c := range r.Chains {
		for _, rule := range c.Rules {
			for _, e := range rule {
				if c.Name == marking && e.Kind == CtMark {
					bits |= e.Mark.Mask
				}
			}
		}
	}
	return bits
}
