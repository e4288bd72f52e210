package decide

import (
	"fmt"
	"slices"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/policy"
)

// A mark leaves the part of the table for services when no service is pinned by
// it any more. Its running connections would lose their mark in the middle, and
// with the last of such marks their translation: their packets would go on with
// another uplink's source, or by another uplink. So it is taken away in three
// steps, each of which the kernel tells after a kill: no new connection gets the
// mark, those that run keep it; then it waits until they have come to their end, or
// conntrack forgets them where the mark is another uplink's from now on, or nothing
// of ours is to stand; the rest goes.

// leaving returns, as pins, the marks that no service gets any more, and whose
// connections conntrack has not forgotten yet.
func (d Decision) leaving() []fwmark.Pin {
	if !d.Table.Have.MarksConnections() && len(d.Table.Running) == 0 {
		return nil
	}
	var wanted []nft.Set
	if d.scope != nothing {
		wanted = nft.Want(d.services()).Sets
	}
	var leaving []fwmark.Pin
	for _, p := range slices.Concat(d.placed(), d.goingPins()) {
		name := nft.PathsSet(p.Mark)
		_, stands := d.Table.Have.Sets[name]
		stays := slices.ContainsFunc(wanted, func(s nft.Set) bool { return s.Name == name })
		stands = stands && d.Table.Have.MarksConnections() || d.runsOn(p)
		if stands && !stays && !d.memory.Forgotten[p.Mark] {
			leaving = append(leaving, p)
		}
	}
	return leaving
}

// MayRun returns the marks that connections may go on with though the table gives them
// to no new one: those that it tells of, and where others have taken it away those that
// the configuration has packets get.
func (o Observation) MayRun() []fwmark.Mark {
	if o.Table.Missing != nil {
		return nil
	}
	if len(o.Table.Have.Claims()) > 0 {
		return o.Table.Have.Left()
	}
	var marks []fwmark.Mark
	for _, in := range o.Config.Intents {
		if !in.Mark.IsZero() && o.Config.MarkingOf(in) == fwmark.ByPacket {
			marks = append(marks, in.Mark)
		}
	}
	return marks
}

// goingPins returns the marks that go as pins.
func (d Decision) goingPins() []fwmark.Pin {
	var pins []fwmark.Pin
	for _, m := range d.going() {
		c := fwmark.Claim{Mark: m}
		if i := slices.IndexFunc(d.stands, func(s fwmark.Claim) bool { return s.Mark == m }); i >= 0 {
			c = d.stands[i]
		}
		pins = append(pins, d.lockedFor(c))
	}
	return pins
}

// forgetFresh returns the steps that have conntrack forget the connections of
// marks that come, before they lead anywhere: the number may have been another
// uplink's once, and conntrack remembers. Nothing of ours gives it to a
// connection as yet, so this needs no lock.
func (d Decision) forgetFresh() []Step {
	var steps []Step
	for _, m := range d.fresh {
		if _, stands := d.Table.Have.Sets[nft.MarkSet(m)]; !stands {
			steps = append(steps, ForgetStep{Mark: m, Silent: true})
		}
	}
	return steps
}

// forgetSources returns the steps that have conntrack forget connections whose
// address has gone. The table notes the address until it gets another one, so a run
// that is killed before that is followed by one that does it.
func (d Decision) forgetSources() []Step {
	var steps []Step
	for _, a := range d.Table.Have.Translated() {
		here := func(have policy.Address) bool { return have.Prefix.Addr() == a }
		if d.Table.Missing == nil && !slices.ContainsFunc(d.Facts.Addrs, here) && !d.memory.SourcesForgotten[a] {
			steps = append(steps, ForgetSourceStep{a})
		}
	}
	return steps
}

// forget returns the steps that have conntrack forget the connections of marks
// that move, and of those that leave: once no connection gets the mark any more
// that is another uplink's, or nobody's.
func (d Decision) forget() []Step {
	var steps []Step
	leaving := d.leaving()
	leaves := func(m fwmark.Mark) bool {
		return slices.ContainsFunc(leaving, func(p fwmark.Pin) bool { return p.Mark == m })
	}
	step := func(m fwmark.Mark) {
		if leaves(m) && !d.left(m) {
			return
		}
		steps = append(steps, ForgetStep{Mark: m, Silent: !d.Table.Have.MarksConnections()})
	}
	for _, p := range d.Pins {
		if d.moving[p.Mark] && d.remembered(p.Mark) && d.shut(p.Mark) && !d.givesOthers(p) {
			step(p.Mark)
		}
	}
	for _, p := range leaving {
		if !d.moving[p.Mark] && !d.runsOn(p) {
			step(p.Mark)
		}
	}
	return steps
}

// givesOthers reports whether the table, as it stands, gives a pin's mark to what
// another one pins.
func (d Decision) givesOthers(p fwmark.Pin) bool {
	for _, o := range d.Pins {
		if o.Mark != p.Mark && slices.ContainsFunc(o.Cgroups, func(path string) bool { return d.getsMark(p.Mark, d.Cgroups.ByPath[path].ID) }) {
			return true
		}
	}
	return slices.ContainsFunc(d.Cgroups.Runs, func(run RunSlice) bool { return !run.of(p) && d.getsMark(p.Mark, run.Cgroup.ID) })
}

// holdRunning has the marks be kept that connections go on with, and that nothing is
// pinned by any more: by rules and lock, as they stand.
func (d *Decision) holdRunning() {
	for _, c := range d.Table.Have.Claims() {
		others := func(p fwmark.Pin) bool {
			return p.Mark == c.Mark || p.Mark.Overlaps(c.Mark) && p.Uplink != c.Uplink
		}
		if d.Table.Running[c.Mark] && c.Uplink != "" && !slices.ContainsFunc(d.Pins, others) {
			d.running = append(d.running, fwmark.Pin{Mark: c.Mark, Uplink: c.Uplink, Kept: true})
		}
	}
	d.Pins = append(slices.Clip(d.Pins), d.running...)
}

// runsOn reports whether connections of a mark that leaves go on by its uplink.
func (d Decision) runsOn(p fwmark.Pin) bool {
	return d.scope != nothing && p.Uplink != "" && d.Table.Running[p.Mark]
}

// RunOn says so of each such mark.
func (d Decision) RunOn() []string {
	var say []string
	for _, p := range d.leaving() {
		if d.runsOn(p) && d.left(p.Mark) {
			say = append(say, fmt.Sprintf("no service's packets get mark %s of uplink %q any more, and it is kept while connections have it: once they have ended, `wg-multihome sync` takes it away", p.Mark, p.Uplink))
		}
	}
	return say
}

// left reports whether the table gives a mark to no new connection any more.
func (d Decision) left(m fwmark.Mark) bool {
	_, stands := d.Table.Have.Sets[nft.MarkSet(m)]
	return !stands
}

// shut reports whether nothing with a mark leaves, so that no connection is
// begun with it: by the second lock, or by the rules where it knows nothing of
// the mark.
func (d Decision) shut(m fwmark.Mark) bool {
	claims := d.Table.Have.Claims()
	i := slices.IndexFunc(claims, func(c fwmark.Claim) bool { return c.Mark == m })
	if i < 0 {
		return d.mayCarry(m) && len(d.leads[m]) == 0
	}
	return claims[i].Uplink == ""
}

// remembered reports whether conntrack may have connections with a mark.
func (d Decision) remembered(m fwmark.Mark) bool {
	return d.Table.Missing == nil && !d.memory.Forgotten[m]
}
