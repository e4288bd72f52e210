package decide

import (
	"slices"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/policy"
)

// lockFacts gathers what the nftables table is made from.
func (d *Decision) lockFacts(pins []fwmark.Pin) nft.Facts {
	pins = slices.DeleteFunc(slices.Clone(pins), d.isRunning)
	f := nft.Facts{
		Uplinks: d.Uplinks, Pins: d.packetPins(pins), Devices: d.lockDevices(), Leased: d.leased(), Reach: policy.Reach(d.Facts, d.Rules.Away),
		Cgroups: d.Cgroups.ByPath, Runs: map[fwmark.Mark][]nft.Cgroup{}, Unseen: d.Cgroups.Unread,
		Broken: len(d.Problems) > 0, Have: d.Table.Have,
		Sockets: d.socketMarks(), Strict: nft.Strict(d.Sysctls.Filters),
	}
	for _, p := range d.Pins { // whose uplink is known even while their mark moves
		if runs := d.packetRuns(p); len(runs) > 0 {
			f.Runs[p.Mark] = runs
		}
	}
	return f
}

// isRunning reports whether a pin is of a mark that nothing is pinned by any more.
func (d Decision) isRunning(p fwmark.Pin) bool {
	return slices.ContainsFunc(d.running, func(r fwmark.Pin) bool { return r.Mark == p.Mark })
}

// lockDevices are the devices that something lies behind.
func (d *Decision) lockDevices() []nft.Device {
	behind := policy.DestinationsByDevice(d.Facts, d.Rules.Away)
	for _, u := range d.Uplinks { // what it has for all
		behind[u.Name] = append(behind[u.Name], u.Through...)
	}
	var devices []nft.Device
	for _, l := range d.Facts.Links {
		if prefixes := behind[l.Name]; len(prefixes) > 0 {
			devices = append(devices, nft.Device{Name: l.Name, Tunnel: nft.IsTunnel(l.Kind), Prefixes: prefixes})
		}
	}
	return devices
}

// table returns the steps at sysctls and at the nftables table.
func (d Decision) table() []Step {
	if d.Table.Missing != nil {
		return nil
	}
	want := d.wantedTable()
	return append(d.sysctls(want), d.tableStep(want)...)
}

// wantedTable returns what is to stand in the nftables table.
func (d Decision) wantedTable() nft.Ruleset {
	if d.scope == nothing && len(d.held()) == 0 { // else until what carries marks was released
		return nft.Ruleset{}
	}
	facts := d.services()
	for _, p := range d.lockedStill() {
		if !d.keepsServices(p.Mark) {
			facts.Going = append(facts.Going, p)
		}
	}
	facts.Going = append(facts.Going, d.running...)
	facts.Leaving = d.leaving()
	return nft.Want(facts)
}

// TableStands returns what stands of the table as it is to be, and the names of the
// chains that do not.
func (d Decision) TableStands() (nft.Ruleset, []string) {
	return d.Table.Have.Standing(d.wantedTable())
}

// services gathers what the part of the table for services is made from.
func (d Decision) services() nft.Facts {
	facts := d.Locks
	facts.Unguarded = d.unguarded()
	for _, c := range d.stands {
		if !d.pinned(c.Mark) && d.keepsServices(c.Mark) {
			facts.Pins = append(slices.Clip(facts.Pins), d.lockedFor(c))
		}
	}
	return facts
}

func (d Decision) tableStep(want nft.Ruleset) []Step {
	step := TableStep{Have: d.Table.Have, Want: want, Names: d.Cgroups.Names}
	if step.Plan().Empty() {
		return nil
	}
	return []Step{step}
}

// Refills reports whether some chain of the table is not as it is to be.
func (d Decision) Refills() bool {
	return slices.ContainsFunc(d.table(), func(s Step) bool {
		table, is := s.(TableStep)
		return is && len(table.Plan().Fill) > 0
	})
}

// lockedStill returns, as pins, the marks that go and that the second lock knows
// until their guards are gone: what it knows of them tells the next run, too,
// whose they were. It lets one leave by its uplink only while a device carries
// it: a packet of a service that has got it already would have conntrack
// remember the mark, right after its connections were forgotten.
func (d Decision) lockedStill() []fwmark.Pin {
	held := d.held()
	guarded := policy.Standing(d.Facts)
	var pins []fwmark.Pin
	for _, c := range d.stands {
		carried := slices.Contains(held, c.Mark)
		if d.pinned(c.Mark) || !carried && !slices.ContainsFunc(guarded, func(g fwmark.Claim) bool { return g.Mark == c.Mark }) {
			continue
		}
		p := d.lockedFor(c)
		if !carried {
			p.Uplink = ""
		}
		pins = append(pins, p)
	}
	return pins
}

// lockedFor returns a mark that goes as a pin: it leads to its uplink, if it is to
// be no other's.
func (d Decision) lockedFor(c fwmark.Claim) fwmark.Pin {
	p := fwmark.Pin{Mark: c.Mark, Full: c.Full, Kept: true}
	if !d.takenOver(c) {
		p.Uplink = c.Uplink
	}
	return p
}

// keepsServices reports whether a service, or a command of `run`, gets a mark that
// goes, and is pinned by one that nothing may get as yet. What could not be read
// may be such a service.
func (d Decision) keepsServices(m fwmark.Mark) bool {
	return d.scope != nothing && d.holdsUnread(m) || slices.ContainsFunc(d.Pins, func(p fwmark.Pin) bool {
		return !d.mayCarry(p.Mark) && (slices.ContainsFunc(p.Cgroups, func(path string) bool { return d.getsMark(m, d.Cgroups.ByPath[path].ID) }) ||
			slices.ContainsFunc(d.Cgroups.Runs, func(run RunSlice) bool { return run.of(p) && d.getsMark(m, run.Cgroup.ID) }))
	})
}

// takenOver reports whether packets of a mark that goes are another uplink's from
// now on: a pin's mark, under another mask, selects them.
func (d Decision) takenOver(c fwmark.Claim) bool {
	return slices.ContainsFunc(d.Pins, func(p fwmark.Pin) bool { return p.Mark.Overlaps(c.Mark) && p.Uplink != c.Uplink })
}

// unguarded returns the marks whose guards do not stand.
func (d Decision) unguarded() map[fwmark.Mark]bool {
	marks := map[fwmark.Mark]bool{}
	for _, p := range d.Pins {
		if !d.mayCarry(p.Mark) {
			marks[p.Mark] = true
		}
	}
	return marks
}

// sysctls returns the steps at src_valid_mark of uplinks that services are
// pinned to.
func (d Decision) sysctls(want nft.Ruleset) []Step {
	if d.Sysctls.Filters == nil {
		return nil
	}
	var steps []Step
	sysctls := nft.Sysctls(want, d.Sysctls.Filters)
	for _, device := range nft.ObsoleteNotes(d.Sysctls.Ours, d.Sysctls.Filters, sysctls) {
		steps = append(steps, SysctlGone{device})
	}
	for _, s := range sysctls {
		steps = append(steps, SysctlStep{s})
	}
	return steps
}
