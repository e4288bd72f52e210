package nft

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go4.org/netipx"
)

// State is what stands in the table.
type State struct {
	Exists   bool
	Dormant  bool              // others have taken all its chains out of their hooks
	Counters map[string]uint64 // packets
	Sets     map[string]Set
	Chains   map[string]ChainState
}

// ChainState is a chain as it stands.
type ChainState struct {
	Base         Base
	Fingerprints []string // of its rules in order; "" for one that is not ours. Never nil
	Devices      []string // that its rules begin with, by name
}

// Plan is the way from what stands to what is wanted, in one transaction.
type Plan struct {
	Want Ruleset

	Steps          []string // its text, a line each
	ConntrackFirst bool     // connections may run that conntrack does not know, and the marking chain is about to come

	DropTable    bool
	Wake         bool     // the table is dormant
	Flush        []string // chains to empty: they go, or are filled anew
	DropChains   []string
	DropSets     []string
	DropCounters []string
	AddCounters  []string
	AddSets      []Set    // with their elements
	AddChains    []Chain  // without rules as yet
	Fill         []Chain  // with all their rules
	Refill       []Set    // of prefixes: emptied and filled
	Elements     []Update // of cgroups
}

// Update is a change to the elements of a set of cgroups.
type Update struct {
	Set         Set
	Add, Delete []uint64
}

// Empty reports whether nothing is to be done.
func (p Plan) Empty() bool { return len(p.Steps) == 0 }

// Diff plans the way from have to want. Elements of public sets are never
// touched. names are the paths of cgroups by id, for the text.
func Diff(have State, want Ruleset, names map[uint64]string) Plan {
	p := Plan{Want: want}
	if want.Empty() {
		if have.Exists {
			p.DropTable = true
			p.say("- nft table inet %s", Table)
		}
		return p
	}
	p.changes(have, want, names)
	return p
}

func (p *Plan) changes(have State, want Ruleset, names map[uint64]string) {
	if have.Dormant {
		p.Wake = true
		p.say("= nft table inet %s", Table)
	}
	p.counters(have, want)
	p.chains(have, want)
	p.sets(have, want, names)
	for _, c := range want.Chains {
		p.ConntrackFirst = p.ConntrackFirst || c.Name == marking && (len(have.Chains[marking].Fingerprints) <= 1 || have.Dormant)
	}
}

// WithoutMarks returns a ruleset like r, but whose marking chain marks nothing, and
// only turns conntrack on.
func (r Ruleset) WithoutMarks() Ruleset {
	r.Chains = slices.Clone(r.Chains)
	for i := range r.Chains {
		if r.Chains[i].Name == marking {
			r.Chains[i].Rules = r.Chains[i].Rules[:1]
		}
	}
	return r
}

func (p *Plan) say(format string, args ...any) {
	p.Steps = append(p.Steps, fmt.Sprintf(format, args...))
}

func (p *Plan) counters(have State, want Ruleset) {
	for _, c := range want.Counters {
		if _, stands := have.Counters[c]; !stands {
			p.AddCounters = append(p.AddCounters, c)
			p.say("+ nft counter %s", c)
		}
	}
	for _, c := range slices.Sorted(maps.Keys(have.Counters)) {
		if !slices.Contains(want.Counters, c) {
			p.DropCounters = append(p.DropCounters, c)
			p.say("- nft counter %s", c)
		}
	}
}

func (p *Plan) chains(have State, want Ruleset) {
	wanted := map[string]bool{}
	for _, c := range want.Chains {
		wanted[c.Name] = true
		now, stands := have.Chains[c.Name]
		switch {
		case !stands:
			p.AddChains = append(p.AddChains, c)
			p.Fill = append(p.Fill, c)
			p.say("+ nft chain %s (%d rules)", c.Name, len(c.Rules))
		case now.Base != c.Base: // where a chain is called cannot be changed
			p.Flush, p.DropChains = append(p.Flush, c.Name), append(p.DropChains, c.Name)
			p.AddChains, p.Fill = append(p.AddChains, c), append(p.Fill, c)
			p.say("= nft chain %s (%d rules)", c.Name, len(c.Rules))
		case !slices.EqualFunc(now.Fingerprints, c.Rules, func(f string, r Rule) bool { return f == r.Fingerprint() }):
			p.Flush, p.Fill = append(p.Flush, c.Name), append(p.Fill, c)
			p.say("= nft chain %s (%d rules)", c.Name, len(c.Rules))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have.Chains)) {
		if !wanted[name] {
			p.Flush, p.DropChains = append(p.Flush, name), append(p.DropChains, name)
			p.say("- nft chain %s", name)
		}
	}
}

func (p *Plan) sets(have State, want Ruleset, names map[uint64]string) {
	wanted := map[string]bool{}
	for _, s := range want.Sets {
		wanted[s.Name] = true
		now, stands := have.Sets[s.Name]
		switch {
		case stands && (now.Type != s.Type || now.Family != s.Family || now.Timed && !s.Public):
			p.DropSets, p.AddSets = append(p.DropSets, s.Name), append(p.AddSets, s)
			p.refill(want, s.Name)
			p.say("= nft set %s%s", s.Name, s.size())
		case !stands:
			p.AddSets = append(p.AddSets, s)
			p.say("+ nft set %s%s", s.Name, s.size())
			p.elements('+', s, s.Cgroups, names)
		case s.Public:
		case s.Type == Prefixes && !slices.Equal(now.Ranges, s.Ranges):
			p.Refill = append(p.Refill, s)
			p.say("= nft set %s%s", s.Name, change(now.Ranges, s.Ranges))
		case s.Type == Cgroups:
			u := Update{Set: s, Add: missing(s.Cgroups, now.Cgroups), Delete: missing(now.Cgroups, s.Cgroups)}
			if len(u.Add)+len(u.Delete) > 0 {
				p.Elements = append(p.Elements, u)
				p.elements('+', s, u.Add, names)
				p.elements('-', s, u.Delete, names)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have.Sets)) {
		if !wanted[name] {
			p.DropSets = append(p.DropSets, name)
			p.say("- nft set %s", name)
		}
	}
}

// refill has the chains that look a set up filled anew: a set that is looked up
// cannot be deleted.
func (p *Plan) refill(want Ruleset, set string) {
	for _, c := range want.Chains {
		uses := slices.ContainsFunc(c.Rules, func(r Rule) bool {
			return slices.ContainsFunc(r, func(e Expr) bool {
				return e.setOf() == set
			})
		})
		filled := slices.ContainsFunc(p.Fill, func(f Chain) bool { return f.Name == c.Name })
		if uses && !filled {
			p.Flush, p.Fill = append(p.Flush, c.Name), append(p.Fill, c)
		}
	}
}

func (p *Plan) elements(op byte, s Set, ids []uint64, names map[uint64]string) {
	for _, id := range ids {
		name := names[id]
		if name == "" {
			name = fmt.Sprint(id)
		}
		p.say("%c nft element %s %s", op, s.Name, name)
	}
}

// size tells how much a set of prefixes holds.
func (s Set) size() string {
	if s.Type != Prefixes || len(s.Ranges) == 0 {
		return ""
	}
	return braced(rangeTexts("", s.Ranges))
}

// change tells what comes into a set of prefixes, and what goes.
func change(have, want []netipx.IPRange) string {
	return braced(append(rangeTexts("+ ", without(want, have)), rangeTexts("- ", without(have, want))...))
}

// without returns what is in a and not in b.
func without(a, b []netipx.IPRange) []netipx.IPRange {
	var builder netipx.IPSetBuilder
	for _, r := range a {
		builder.AddRange(r)
	}
	for _, r := range b {
		builder.RemoveRange(r)
	}
	set, err := builder.IPSet()
	if err != nil {
		return nil // its errors are about invalid ranges
	}
	return set.Ranges()
}

func rangeTexts(before string, ranges []netipx.IPRange) []string {
	texts := make([]string, 0, len(ranges))
	for _, r := range ranges {
		if p, ok := r.Prefix(); ok {
			texts = append(texts, before+prefixText(p))
		} else {
			texts = append(texts, before+r.String())
		}
	}
	return texts
}

func braced(texts []string) string {
	const shown = 8
	if more := len(texts) - shown; more > 0 {
		texts = append(texts[:shown], fmt.Sprintf("and %d more", more))
	}
	return " { " + strings.Join(texts, ", ") + " }"
}

// missing returns what is in a and not in b; both are sorted.
func missing(a, b []uint64) []uint64 {
	var m []uint64
	for _, id := range a {
		if _, found := slices.BinarySearch(b, id); !found {
			m = append(m, id)
		}
	}
	return m
}
