// Package sim is our nftables table in memory, for tests, and no part of the
// program: plans are applied to it as the kernel would, and it refuses what the
// kernel refuses, as measured on Linux 6.18 and read in
// net/netfilter/nf_tables_api.c.
//
// Scenarios are operations with what the kernel answers to each, and what stands
// then. They are run against this package and against a network namespace, so
// that neither can drift from the other.
package sim

import (
	"fmt"
	"maps"
	"slices"
	"syscall"

	"wg-multihome/nft"
)

// Table is the table as the kernel has it. Tests may change what is in it, as
// others do on a host. The zero value, like New's, is a kernel without it.
type Table struct {
	Exists   bool
	Dormant  bool
	Counters map[string]uint64
	Sets     map[string]nft.Set
	Chains   map[string]nft.Chain
}

// New returns a kernel without the table.
func New() *Table {
	return &Table{Counters: map[string]uint64{}, Sets: map[string]nft.Set{}, Chains: map[string]nft.Chain{}}
}

// Foreign returns a rule that others have added, of which these parts count: it
// has no fingerprint.
func Foreign(parts ...nft.Expr) nft.Rule { return append(nft.Rule{{}}, parts...) }

// Clone returns a copy, which changes by itself.
func (t *Table) Clone() *Table {
	c := *t
	c.Counters, c.Sets, c.Chains = maps.Clone(t.Counters), maps.Clone(t.Sets), maps.Clone(t.Chains)
	return &c
}

// Read returns what stands, as nft/kernel's Client does. It never fails.
func (t *Table) Read() (nft.State, error) {
	s := nft.State{Exists: t.Exists, Dormant: t.Dormant, Counters: map[string]uint64{}, Sets: map[string]nft.Set{}, Chains: map[string]nft.ChainState{}}
	maps.Copy(s.Counters, t.Counters)
	for name, set := range t.Sets {
		set.Name, set.Public = name, false
		s.Sets[name] = set
	}
	for name, c := range t.Chains {
		s.Chains[name] = stateOf(c)
	}
	return s, nil
}

func stateOf(c nft.Chain) nft.ChainState {
	now := nft.ChainState{Base: c.Base, Fingerprints: []string{}}
	for _, r := range c.Rules {
		fingerprint := r.Fingerprint()
		if r[0].Kind == 0 { // not ours
			r, fingerprint = r[1:], ""
		}
		now.Fingerprints = append(now.Fingerprints, fingerprint)
		if len(r) > 0 && r[0].Kind == nft.OutDevice {
			now.Devices = append(now.Devices, r[0].Name)
		}
	}
	return now
}

// Close is there for the sake of those who close a client.
func (t *Table) Close() {}

// Apply makes a plan's changes as nft/kernel's Client does: all, or none and
// the kernel's error.
func (t *Table) Apply(p nft.Plan) error {
	if p.Empty() {
		return nil
	}
	if p.Wake { // in a transaction of its own
		t.Exists, t.Dormant = true, false
	}
	next := t.Clone()
	if err := next.commit(p); err != nil {
		return fmt.Errorf("change table inet %s: %w", nft.Table, err)
	}
	*t = *next
	return nil
}

func (t *Table) commit(p nft.Plan) error {
	if p.DropTable {
		if !t.Exists {
			return refused("delete the table", "", syscall.ENOENT)
		}
		*t = *New()
		return nil
	}
	hooked := func(c nft.Chain) bool { return c.Base != nft.Base{} }
	if t.Dormant && (slices.ContainsFunc(p.AddChains, hooked) || slices.ContainsFunc(p.DropChains, func(name string) bool { return hooked(t.Chains[name]) })) {
		return refused("wake the table", "", syscall.EINVAL)
	}
	t.Exists, t.Dormant = true, false
	for _, part := range []func(nft.Plan) error{t.flush, t.drop, t.dropObjects, t.addObjects, t.elements, t.addChains, t.fill} {
		if err := part(p); err != nil {
			return err
		}
	}
	return nil
}

func refused(what, name string, errno syscall.Errno) error {
	if name != "" {
		what += " " + name
	}
	return fmt.Errorf("%s: %w", what, errno)
}

func (t *Table) flush(p nft.Plan) error {
	for _, name := range p.Flush {
		c, stands := t.Chains[name]
		if !stands {
			return refused("flush chain", name, syscall.ENOENT)
		}
		c.Rules = nil
		t.Chains[name] = c
	}
	return nil
}

func (t *Table) drop(p nft.Plan) error {
	for _, name := range p.DropChains {
		if _, stands := t.Chains[name]; !stands {
			return refused("delete chain", name, syscall.ENOENT)
		}
		if t.used(name, nft.Goto, nft.Jump) {
			return refused("delete chain", name, syscall.EBUSY)
		}
		delete(t.Chains, name) // with its rules
	}
	return nil
}

func (t *Table) dropObjects(p nft.Plan) error {
	for _, name := range p.DropSets {
		if _, stands := t.Sets[name]; !stands {
			return refused("delete set", name, syscall.ENOENT)
		}
		if t.used(name, nft.ToSet, nft.FromSet, nft.InCgroup, nft.NoteAsker, nft.AnswerAsker, nft.LateAnswer, nft.GuessedAnswer) {
			return refused("delete set", name, syscall.EBUSY)
		}
		delete(t.Sets, name)
	}
	for _, name := range p.DropCounters {
		if _, stands := t.Counters[name]; !stands {
			return refused("delete counter", name, syscall.ENOENT)
		}
		if t.used(name, nft.Count) {
			return refused("delete counter", name, syscall.EBUSY)
		}
		delete(t.Counters, name)
	}
	return nil
}

// used reports whether a rule names what is of a kind that such expressions
// name.
func (t *Table) used(name string, kinds ...nft.Kind) bool {
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			if slices.ContainsFunc(r, func(e nft.Expr) bool { return e.Name == name && slices.Contains(kinds, e.Kind) }) {
				return true
			}
		}
	}
	return false
}

// addObjects adds counters and sets. What is there already stays as it is, and
// a set gets the elements.
func (t *Table) addObjects(p nft.Plan) error {
	for _, name := range p.AddCounters {
		t.Counters[name] += 0
	}
	for _, s := range p.AddSets {
		now, stands := t.Sets[s.Name]
		if stands && (now.Type != s.Type || now.Family != s.Family) {
			return refused("add set", s.Name, syscall.EEXIST)
		}
		if stands {
			s.Cgroups = append(slices.Clone(now.Cgroups), s.Cgroups...)
			s.Ranges = append(slices.Clone(now.Ranges), s.Ranges...)
		}
		s.Cgroups = sorted(s.Cgroups)
		t.Sets[s.Name] = s
	}
	return nil
}

func (t *Table) elements(p nft.Plan) error {
	for _, s := range p.Refill {
		now, stands := t.Sets[s.Name]
		if !stands {
			return refused("fill set", s.Name, syscall.ENOENT)
		}
		now.Ranges = s.Ranges
		t.Sets[s.Name] = now
	}
	for _, u := range p.Elements {
		now, stands := t.Sets[u.Set.Name]
		if !stands {
			return refused("change set", u.Set.Name, syscall.ENOENT)
		}
		now.Cgroups = slices.Clone(now.Cgroups)
		for _, id := range u.Delete {
			at := slices.Index(now.Cgroups, id)
			if at < 0 {
				return refused("change set", u.Set.Name, syscall.ENOENT)
			}
			now.Cgroups = slices.Delete(now.Cgroups, at, at+1)
		}
		now.Cgroups = sorted(append(now.Cgroups, u.Add...))
		t.Sets[u.Set.Name] = now
	}
	return nil
}

func sorted(ids []uint64) []uint64 { return slices.Compact(slices.Sorted(slices.Values(ids))) }

// addChains adds chains without rules. One that is there stays, and where the
// kernel calls it cannot be changed.
func (t *Table) addChains(p nft.Plan) error {
	for _, c := range p.AddChains {
		now, stands := t.Chains[c.Name]
		switch {
		case !stands:
			t.Chains[c.Name] = nft.Chain{Name: c.Name, Base: c.Base}
		case c.Base != nft.Base{} && now.Base != c.Base:
			return refused("add chain", c.Name, syscall.EOPNOTSUPP)
		}
	}
	return nil
}

func (t *Table) fill(p nft.Plan) error {
	for _, c := range p.Fill {
		now, stands := t.Chains[c.Name]
		if !stands {
			return refused("add a rule to chain", c.Name, syscall.ENOENT)
		}
		for _, r := range c.Rules {
			if errno := t.names(r); errno != 0 {
				return refused(fmt.Sprintf("add rule %q to chain", r), c.Name, errno)
			}
		}
		now.Rules = append(slices.Clone(now.Rules), c.Rules...)
		t.Chains[c.Name] = now
	}
	return nil
}

// names checks what a rule names.
func (t *Table) names(r nft.Rule) syscall.Errno {
	for _, e := range r {
		switch e.Kind {
		case nft.Goto, nft.Jump:
			c, stands := t.Chains[e.Name]
			if !stands {
				return syscall.ENOENT
			}
			if c.Base != (nft.Base{}) {
				return syscall.EOPNOTSUPP
			}
		case nft.ToSet, nft.FromSet, nft.InCgroup, nft.NoteAsker, nft.AnswerAsker, nft.LateAnswer, nft.GuessedAnswer:
			s, stands := t.Sets[e.Name]
			if !stands {
				return syscall.ENOENT
			}
			if width(s) != 0 && width(s) > loaded(e) {
				return syscall.ENODATA
			}
		case nft.Count:
			if _, stands := t.Counters[e.Name]; !stands {
				return syscall.ENOENT
			}
		}
	}
	return 0
}

// width is that of a set's keys, in bytes; 0 where that is not known.
func width(s nft.Set) int {
	switch s.Type {
	case nft.Cgroups:
		return 8
	case nft.Prefixes:
		return s.Family.Bits() / 8
	}
	return 0
}

// loaded is how many bytes a rule compares with a set.
func loaded(e nft.Expr) int {
	if e.Kind == nft.InCgroup {
		return 8
	}
	return e.Family.Bits() / 8
}
