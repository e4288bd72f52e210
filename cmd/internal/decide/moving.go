package decide

import (
	"slices"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/policy"
)

// A mark moves when the configuration gives its number to another uplink.
// Whatever still carries it from before belongs to the other one: a device that
// has not got its own mark yet, a connection whose mark conntrack keeps. Until
// nothing does, the mark has its guards alone, in the rules and in the second
// lock, and all that carries it is refused. So it goes through three states,
// each of which the kernel tells after a kill: it leads to the old uplink, to
// none, to the new one.

// findMoving finds the marks that nothing may leave by as yet.
func (d *Decision) findMoving() {
	d.moving = map[fwmark.Mark]bool{}
	claims := map[fwmark.Mark]string{}
	for _, c := range d.Table.Have.Claims() {
		claims[c.Mark] = c.Uplink
	}
	d.leads = policy.Leads(d.Facts)
	for _, p := range d.Pins {
		locked, stands := claims[p.Mark]
		m := move{pin: p, locked: locked, stands: stands, leads: d.leads[p.Mark]}
		if p.Uplink == "" || m.arrived() {
			continue
		}
		m.fresh = !m.elsewhere() && !d.othersStood(p, claims)
		wasOthers := !m.fresh || slices.ContainsFunc(d.stands, func(c fwmark.Claim) bool { // guards alone do not tell whose it was
			return c.Mark.Overlaps(p.Mark) && c.Uplink != p.Uplink
		})
		remembered := d.remembered(p.Mark)
		// What cannot be read of the table may give the mark to what is another's.
		d.moving[p.Mark] = d.carriedByOthers(p, wasOthers) || d.socketsOfOthers(p, wasOthers) || remembered || wasOthers && d.Table.Unread
		if m.fresh && remembered {
			d.fresh = append(d.fresh, p.Mark)
		}
	}
}

// move is where a pin's mark stands now.
type move struct {
	pin    fwmark.Pin
	locked string // the uplink that the second lock lets it leave by; "": none
	stands bool   // the second lock knows it
	leads  []string
	fresh  bool // it does not stand, and nothing that it selects does
}

// arrived reports whether the mark is its uplink's already. The lock gets its
// place last of all, and where there is no lock the rules tell.
func (m move) arrived() bool {
	if m.stands && m.locked != "" {
		return m.locked == m.pin.Uplink
	}
	return len(m.leads) > 0 && !slices.ContainsFunc(m.leads, m.other)
}

// elsewhere reports whether the mark stands, and for another uplink or none.
func (m move) elsewhere() bool {
	return m.stands && m.locked != m.pin.Uplink || slices.ContainsFunc(m.leads, m.other)
}

func (m move) other(uplink string) bool { return uplink != m.pin.Uplink }

// othersStood reports whether a mark that stands, and whose packets a pin's mark
// selects, is another uplink's or none's.
func (d *Decision) othersStood(p fwmark.Pin, claims map[fwmark.Mark]string) bool {
	for m, uplink := range claims {
		if m != p.Mark && m.Overlaps(p.Mark) && uplink != p.Uplink {
			return true
		}
	}
	for m, uplinks := range d.leads {
		if m != p.Mark && m.Overlaps(p.Mark) && slices.ContainsFunc(uplinks, func(u string) bool { return u != p.Uplink }) {
			return true
		}
	}
	return false
}

// carriedByOthers reports whether a device, a service or a command of `run` that
// is pinned to another uplink carries this mark. Its own may be in doubt, or its
// guards missing: then it has no other as yet. What could not be read may carry
// it, if the mark was another uplink's.
func (d *Decision) carriedByOthers(p fwmark.Pin, wasOthers bool) bool {
	for _, in := range d.claimed() {
		if in.Uplink == p.Uplink {
			continue
		}
		for _, device := range d.Devices.Found {
			if slices.Contains(in.Devices, device.Name) && p.Mark.Selects(device.Mark) {
				return true
			}
		}
		if slices.ContainsFunc(in.Cgroups, func(path string) bool { return d.stays(p, path) }) {
			return true
		}
		unread := func(name string) bool { return slices.Contains(d.Devices.Unread, name) }
		if wasOthers && slices.ContainsFunc(in.Devices, unread) {
			return true
		}
	}
	return wasOthers && d.holdsUnread(p.Mark) || slices.ContainsFunc(d.Cgroups.Runs, func(run RunSlice) bool { return d.runStays(p, run) })
}

// stays reports whether a service gets a pin's mark, and no other one can take
// its place as yet.
func (d *Decision) stays(p fwmark.Pin, path string) bool {
	c, exists := d.Cgroups.ByPath[path]
	return exists && d.getsMark(p.Mark, c.ID) &&
		!slices.ContainsFunc(d.Pins, func(o fwmark.Pin) bool { return slices.Contains(o.Cgroups, path) && d.mayCarry(o.Mark) })
}

// runStays reports likewise of commands of `run` that are another pin's.
func (d *Decision) runStays(p fwmark.Pin, run RunSlice) bool {
	return run.Lives && !run.of(p) && d.getsMark(p.Mark, run.Cgroup.ID) &&
		!slices.ContainsFunc(d.Pins, func(o fwmark.Pin) bool { return run.of(o) && d.mayCarry(o.Mark) })
}

// getsMark reports whether connections of a cgroup get a mark.
func (d *Decision) getsMark(m fwmark.Mark, id uint64) bool {
	return slices.Contains(d.Table.Have.Sets[nft.PathsSet(m)].Cgroups, id)
}

// holdsUnread reports whether a mark is given to a cgroup of which it is not known
// whose it is, as some could not be read.
func (d *Decision) holdsUnread(m fwmark.Mark) bool {
	return d.Cgroups.Unread && slices.ContainsFunc(d.Table.Have.Sets[nft.PathsSet(m)].Cgroups, func(id uint64) bool { return d.Cgroups.Names[id] == "" })
}

// placed returns the pins with those that move as guards alone.
func (d *Decision) placed() []fwmark.Pin {
	placed := slices.Clone(d.Pins)
	for i := range placed {
		if d.moving[placed[i].Mark] {
			placed[i].Uplink = ""
		}
	}
	return placed
}
