package nft

import (
	"net/netip"
	"slices"

	"wg-multihome/fwmark"
)

// minLevels is how deep cgroups are looked at in any case: others may put
// cgroups of any depth into a mark's public set.
const minLevels = 8

// OtherMarks is the name of the counter of packets and connections of this
// host that carry a mark in our bits which is none of ours.
const OtherMarks = "other_marks"

// Unforgotten is the name of a counter that nothing counts with. It stands from when
// services are marked until conntrack has forgotten what they have sent before: a run
// that finds it goes on from there.
const Unforgotten = "unforgotten"

// WithUnforgotten returns a ruleset like r, with that counter.
func (r Ruleset) WithUnforgotten() Ruleset {
	r.Counters = slices.Sorted(slices.Values(append(slices.Clip(r.Counters), Unforgotten)))
	return r
}

// multicast is where IGMP and MLD report to.
var multicast = [...]netip.Prefix{netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("ff00::/8")}

// The chains: which gives services their marks, the answers theirs, and
// services the uplink's address; and what looks at all that comes in.
const (
	marking       = "services"
	answersChain  = "answers"
	sourcesChain  = "sources"
	arrivalsChain = "arrivals"
)

// What names of chains and sets of one mark, or family, begin with.
const (
	pinPrefix    = "pin_"
	publicPrefix = "mark_"
	pathsPrefix  = "paths_"
	reachPrefix  = "reach"
	sourcePrefix = "source" // chain "sources", and sets
)

// hasServices reports whether the services part is to be there. Who pins no
// service pays for no conntrack. A unit that systemd's NFTSet= has put into a
// mark's set is pinned, too: nobody but systemd, at its next start, would put it
// there again.
func (w *wanter) hasServices() bool {
	for _, p := range w.facts.Pins {
		if p.Cgroups != nil || len(w.facts.Runs[p.Mark]) > 0 || len(w.facts.Have.Sets[MarkSet(p.Mark)].Cgroups) > 0 {
			return true
		}
	}
	return (w.facts.Broken || w.facts.Unseen && w.pinsSome()) && w.facts.Have.Chains[marking].Fingerprints != nil && len(w.facts.Pins) > 0
}

// pinsSome reports whether a cgroup is pinned as it stands, by a mark that keeps
// its sets.
func (w *wanter) pinsSome() bool {
	return slices.ContainsFunc(w.maySet(), func(p fwmark.Pin) bool { return len(w.facts.Have.Sets[PathsSet(p.Mark)].Cgroups) > 0 })
}

// withSets returns the pins that have sets, one of each value: those whose guards
// stand, and those that have sets already.
func (w *wanter) withSets() []fwmark.Pin {
	if !w.hasServices() {
		return nil
	}
	return w.maySet()
}

func (w *wanter) maySet() []fwmark.Pin {
	return slices.DeleteFunc(byValue(w.facts.Pins), func(p fwmark.Pin) bool {
		_, stands := w.facts.Have.Sets[MarkSet(p.Mark)]
		return w.facts.Unguarded[p.Mark] && !stands
	})
}

// services makes the part for services, of the pins that give connections their
// marks. A mark that leaves has a set that nothing looks up: it tells the next run
// that the connections are still to be forgotten.
func (w *wanter) services(pins []fwmark.Pin) {
	w.out.Counters = append(w.out.Counters, OtherMarks)
	for _, p := range pins {
		w.out.Sets = append(w.out.Sets, Set{Name: MarkSet(p.Mark), Type: Cgroups, Public: true},
			Set{Name: PathsSet(p.Mark), Type: Cgroups, Cgroups: w.ids(p)})
	}
	for _, p := range w.keeping[len(pins):] {
		w.out.Sets = append(w.out.Sets, Set{Name: PathsSet(p.Mark), Type: Cgroups})
	}
	w.marking(pins)
	w.answers()
	w.arrivals()
	w.askers(pins)
	w.sources()
}

// bits returns all bits of the marks that connections have, none of them set.
func (w *wanter) bits() fwmark.Mark {
	var bits fwmark.Mark
	for _, p := range w.keeping {
		bits.Mask |= p.Mark.Mask
	}
	return bits
}

// keeps reports whether connections have a mark.
func (w *wanter) keeps(m fwmark.Mark) bool {
	return slices.ContainsFunc(w.keeping, func(p fwmark.Pin) bool { return p.Mark == m })
}

// byValue leaves one pin of each value, as the sets are named by it: that with
// cgroups, or one with an uplink.
func byValue(pins []fwmark.Pin) []fwmark.Pin {
	var list []fwmark.Pin
	for _, p := range pins {
		i := slices.IndexFunc(list, func(o fwmark.Pin) bool { return o.Mark.Value == p.Mark.Value })
		switch {
		case i < 0:
			list = append(list, p)
		case list[i].Cgroups == nil && (p.Cgroups != nil || list[i].Uplink == ""):
			list[i] = p
		}
	}
	return list
}

// ids returns the cgroups that are to carry a mark.
func (w *wanter) ids(p fwmark.Pin) []uint64 {
	ids := w.waiting(p)
	if !w.facts.Unguarded[p.Mark] {
		for _, c := range w.cgroups(p) {
			ids = append(ids, c.ID)
		}
	}
	if w.facts.Unguarded[p.Mark] || w.facts.Broken || w.facts.Unseen {
		for _, id := range w.facts.Have.Sets[PathsSet(p.Mark)].Cgroups {
			if _, elsewhere := w.otherOf(p, id); !elsewhere {
				ids = append(ids, id)
			}
		}
	}
	return sortedIDs(ids)
}

// waiting returns the cgroups that keep a mark because the one that they are
// pinned by may not be carried as yet.
func (w *wanter) waiting(p fwmark.Pin) []uint64 {
	return slices.DeleteFunc(slices.Clone(w.facts.Have.Sets[PathsSet(p.Mark)].Cgroups), func(id uint64) bool {
		other, pinned := w.otherOf(p, id)
		return !pinned || !w.facts.Unguarded[other]
	})
}

// otherOf returns the mark, other than a pin's, that a cgroup is pinned by.
func (w *wanter) otherOf(p fwmark.Pin, id uint64) (other fwmark.Mark, pinned bool) {
	for _, o := range w.facts.Pins {
		if o.Mark.Value != p.Mark.Value && slices.ContainsFunc(w.cgroups(o), func(c Cgroup) bool { return c.ID == id }) {
			return o.Mark, true
		}
	}
	return fwmark.Mark{}, false
}

// cgroups returns what is pinned by a mark and there.
func (w *wanter) cgroups(p fwmark.Pin) []Cgroup {
	list := slices.Clone(w.facts.Runs[p.Mark])
	for _, path := range p.Cgroups {
		if c, exists := w.facts.Cgroups[path]; exists {
			list = append(list, c)
		}
	}
	return list
}

// marking decides by the first packet of a connection alone, and keeps what it
// decided in the connection's mark: a connection that runs would get the wrong
// source if it were marked or unmarked. Most packets are of connections that run,
// so these leave the chain first.
//
// A later packet gets the mark that its connection began with. `ct state new` does
// not tell a first packet from a later one, as one-way UDP stays new; the
// confirmed bit does. What conntrack does not follow, as others said so
// (`notrack`) or as it has forgotten the connection, has no connection's mark: each
// of its packets gets the mark, and the lock drops those that keep the source of
// another uplink. A packet whose own mark has one of our bits is left alone:
// it is WireGuard's, or other software's. Those to multicast are not counted: the
// kernel keeps the mark of IGMP and MLD in a field that it uses for something
// else there (sk_buff's reserved_tailroom).
func (w *wanter) marking(pins []fwmark.Pin) {
	bits, keeping := w.bits(), w.keeping
	rules := []Rule{{{Kind: CtMark, Mark: bits}, {Kind: Confirmed}, {Kind: Accept}}}
	for _, p := range keeping {
		end := Expr{Kind: Accept}
		if w.answersAskers(p) {
			end = Expr{Kind: Goto, Name: byMark(answerPrefix, p.Mark)}
		}
		rules = append(rules, Rule{{Kind: CtMark, Mark: p.Mark}, {Kind: Original}, unmarked(p.Mark), {Kind: SetMetaMark, Mark: p.Mark}, end})
	}
	for _, p := range keeping {
		rules = append(rules, Rule{{Kind: CtMark, Mark: p.Mark}, {Kind: Accept}})
	}
	rules = append(rules, Rule{{Kind: CtMark, Mark: bits, Not: true}, {Kind: Count, Name: OtherMarks}, {Kind: Accept}})
	for _, p := range keeping {
		rules = append(rules, Rule{{Kind: MetaMark, Mark: p.Mark}, {Kind: Accept}})
	}
	for _, p := range multicast {
		rules = append(rules, Rule{{Kind: MetaMark, Mark: bits, Not: true}, {Kind: To, Prefix: p}, {Kind: Accept}})
	}
	rules = append(rules,
		Rule{{Kind: MetaMark, Mark: bits, Not: true}, {Kind: Count, Name: OtherMarks}, {Kind: Accept}},
		Rule{{Kind: Established}, {Kind: Accept}})
	// Of nested claims the deepest wins.
	for level := w.levels(pins); level > 0; level-- {
		for _, p := range pins {
			for _, set := range []string{MarkSet(p.Mark), PathsSet(p.Mark)} {
				rules = append(rules, Rule{{Kind: InCgroup, Level: level, Name: set}, {Kind: Goto, Name: byMark(pinPrefix, p.Mark)}})
			}
		}
	}
	w.chain(marking, Base{"route", "output", priorityMangle}, rules...)
	resets := w.resets(pins)
	for _, p := range pins {
		w.pin(p, resets)
	}
}

// resets returns the families in which connections are to be reset: those in which
// some mark has no table. For each it adds the set of destinations that main
// reaches by routes other than a default; connections to those are not reset.
//
// The kernel takes minutes to list a set as large as a full feed. There nothing
// is reset, and connections of such a mark hang.
func (w *wanter) resets(pins []fwmark.Pin) (families [2]bool) {
	for _, f := range fwmark.Families {
		if !slices.ContainsFunc(pins, func(p fwmark.Pin) bool { return !w.uplinks[p.Uplink].Routed(f) }) {
			continue
		}
		if ranges := merged(w.facts.Reach[f])[f]; len(ranges) <= MaxRanges {
			families[f] = true
			w.out.Sets = append(w.out.Sets, Set{Name: reachSet(f), Type: Prefixes, Family: f, Ranges: ranges})
		}
	}
	return families
}

func unmarked(m fwmark.Mark) Expr { return Expr{Kind: MetaMark, Mark: fwmark.Mark{Mask: m.Mask}} }

func (w *wanter) levels(pins []fwmark.Pin) int {
	deepest := minLevels
	for _, p := range pins {
		for _, c := range w.cgroups(p) {
			deepest = max(deepest, c.Level)
		}
	}
	return deepest
}

func reachSet(f fwmark.Family) string { return reachPrefix + f.String() }

// pin marks a packet and its connection. Where the mark has no table, a TCP
// connection to a destination that only a default leads to is reset. The rules
// refuse it in any case, but the socket found its route before it had the mark,
// so connect(2) would not be told and would hang.
func (w *wanter) pin(p fwmark.Pin, resets [2]bool) {
	rules := []Rule{{{Kind: SetMetaMark, Mark: p.Mark}, {Kind: SetCtMark, Mark: p.Mark}}}
	for _, f := range fwmark.Families {
		if w.uplinks[p.Uplink].Routed(f) || !resets[f] {
			continue
		}
		rules = append(rules, Rule{{Kind: TCP}, {Kind: ToOther}, {Kind: ToSet, Family: f, Name: reachSet(f), Not: true}, {Kind: Reset}})
	}
	if w.answersAskers(p) {
		rules = append(rules, Rule{{Kind: UDP}, {Kind: Goto, Name: byMark(answerPrefix, p.Mark)}})
	}
	w.chain(byMark(pinPrefix, p.Mark), Base{}, rules...)
}
