package decide

import (
	"cmp"
	"slices"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/wg"
)

// Phase is a stage of a run. Its steps may be made once all phases before it were
// gone through, also where steps of those have failed: a step that depends on an
// earlier one is there only where that one's outcome was observed.
type Phase uint8

// The phases.
const (
	// ForgetFresh has connections forgotten whose mark is nobody's, before it
	// gets an uplink; and those whose address has gone.
	ForgetFresh Phase = iota
	// Open sets link groups, adds guards, takes away what lets too much through,
	// and adds the rest of rules and routes.
	Open
	// Lock brings the nftables table to what is wanted, but for the marks that
	// devices are still to be released from.
	Lock
	// Mark gives devices their marks, where the guards stand.
	Mark
	// Attach has the sockets of services get their marks, likewise.
	Attach
	// Release takes marks that go off the devices that carry them, and off the
	// sockets of services that are marked so no longer.
	Release
	// Remark gives sockets the number that their uplink has now.
	Remark
	// Forget has connections of marks that move, or that no service gets any more,
	// forgotten.
	Forget
	// Unlock takes from the table what nothing carries any more.
	Unlock
	// ClosePairs deletes obsolete pairs. One that is left may stand in front of
	// a mark's new unreachable, and then the old one still holds.
	ClosePairs
	// Close deletes obsolete rules and routes, and sets link groups back.
	Close
)

// calledPhases are those without rules and routes, and without what depends on
// ours alone.
var calledPhases = [...]Phase{ForgetFresh, Lock, Mark, Attach, Release, Remark, Forget, Unlock}

// Observed reports whether a phase goes by what is observed anew where steps have
// changed it. Close goes by what the steps of ClosePairs that did not fail must
// have left.
func (p Phase) Observed() bool { return p != Close }

// Phases are all phases, in their order.
//
// Uplinks whose sockets wait for each other's numbers come one after the other.
var Phases = [...]Phase{
	ForgetFresh, Open, Lock, Mark, Attach, Release, Remark, Attach, Remark, Attach, Remark, Attach, Remark,
	Forget, Unlock, ClosePairs, Close,
}

// Steps returns the steps of a phase that may be made now.
func (d Decision) Steps(p Phase) []Step {
	if d.scope == refused || d.scope == called && !slices.Contains(calledPhases[:], p) {
		return nil
	}
	switch p {
	case ForgetFresh:
		return append(d.forgetFresh(), d.forgetSources()...)
	case Open:
		return ruleSteps(policy.Open(d.Rules.Have, d.Rules.State))
	case Lock:
		return d.table()
	case Mark:
		return deviceSteps(slices.DeleteFunc(wg.Want(d.Devices.Found, d.markable()), d.unlocks))
	case Attach:
		return d.attach()
	case Release:
		if d.scope == called { // devices are not those of one call alone
			return d.detach()
		}
		return append(deviceSteps(d.releases()), d.detach()...)
	case Remark:
		return d.remark()
	case Forget:
		return d.forget()
	case Unlock:
		return d.table()
	}
	return ruleSteps(d.closing(p))
}

// closing returns the deletions of rules and routes of one phase: of ClosePairs
// those of pairs; of Close, once no obsolete pair is left, all others, and the
// links whose group is set back.
func (d Decision) closing(p Phase) []policy.Step {
	steps := policy.Close(d.Rules.Have, d.Rules.State, d.held())
	pairs := 0
	for pairs < len(steps) && steps[pairs].Pair() {
		pairs++
	}
	switch {
	case p == ClosePairs:
		return steps[:pairs]
	case pairs > 0:
		return nil
	}
	return steps
}

// markable returns the pins whose marks devices may get: their guards stand, and
// the second lock does not let them leave by another uplink.
func (d Decision) markable() []fwmark.Pin {
	pins := d.Pins
	if d.scope == called {
		pins = d.calledPins()
	}
	return slices.DeleteFunc(slices.Clone(pins), func(p fwmark.Pin) bool { return !d.carriable(p) })
}

// carriable reports whether anything may get a pin's mark.
func (d Decision) carriable(p fwmark.Pin) bool {
	others := slices.ContainsFunc(d.Table.Have.Claims(), func(c fwmark.Claim) bool {
		return c.Mark.Selects(p.Mark.Value) && c.Uplink != "" && c.Uplink != p.Uplink
	})
	return !others && d.mayCarry(p.Mark)
}

// unlocks reports whether a device would exchange a mark that the second lock
// holds, for the same uplink or for what is refused, for one that it does not know:
// the table could not be changed. Where it could not be read it may be so.
func (d Decision) unlocks(c wg.Change) bool {
	if d.Table.Unread {
		return d.mayUnlock(c)
	}
	claims := d.Table.Have.Claims()
	uplinkOf := func(mark uint32) string {
		i := slices.IndexFunc(claims, func(l fwmark.Claim) bool { return l.Mark.Selects(mark) })
		if i < 0 {
			return ""
		}
		return claims[i].Uplink
	}
	pin := slices.IndexFunc(d.Pins, func(p fwmark.Pin) bool { return slices.Contains(p.Devices, c.Device) })
	device := slices.IndexFunc(d.Devices.Found, func(device wg.Device) bool { return device.Name == c.Device })
	known := slices.ContainsFunc(claims, func(l fwmark.Claim) bool { return l.Mark.Selects(c.Mark) })
	if known || pin < 0 || device < 0 {
		return false
	}
	has := d.Devices.Found[device].Mark
	if d.Refused(d.Pins[pin]) != "" {
		return slices.ContainsFunc(claims, func(l fwmark.Claim) bool { return l.Mark.Selects(has) })
	}
	uplink := uplinkOf(has)
	return uplink != "" && uplink == d.Pins[pin].Uplink
}

// mayUnlock reports whether a device would get a mark that the second lock may
// hold for another uplink, or exchange one that it may hold for its own.
func (d Decision) mayUnlock(c wg.Change) bool {
	pin := slices.IndexFunc(d.Pins, func(p fwmark.Pin) bool { return slices.Contains(p.Devices, c.Device) })
	device := slices.IndexFunc(d.Devices.Found, func(device wg.Device) bool { return device.Name == c.Device })
	if pin < 0 || device < 0 {
		return false
	}
	if d.moving[d.Pins[pin].Mark] {
		return true
	}
	own := cmp.Or(d.Pins[pin].Uplink, d.Refused(d.Pins[pin]))
	return slices.ContainsFunc(d.stands, func(s fwmark.Claim) bool {
		elsewhere := slices.ContainsFunc(d.leads[s.Mark], func(uplink string) bool { return uplink != own })
		return s.Mark.Selects(d.Devices.Found[device].Mark) && !elsewhere
	})
}

// mayCarry reports whether anything may get a mark: its guards stand, and where
// others keep rules and routes these do not lead it to another uplink.
func (d Decision) mayCarry(m fwmark.Mark) bool {
	if d.scope == called {
		return d.guardedForCall(m) && d.ledAway(m) == ""
	}
	return d.Guarded(m)
}

// releases returns the changes that take marks that go off their devices. Marks
// of full tunnels stay: wg-quick finds their rules by them. So does one on a
// device that is to get another mark, and has not got it as yet.
func (d Decision) releases() []wg.Change {
	found := slices.DeleteFunc(slices.Clone(d.Devices.Found), d.waits)
	return wg.Release(found, d.going(), d.Pins, d.tunnelMarks())
}

// waits reports whether a device is pinned by another mark than it has.
func (d Decision) waits(device wg.Device) bool {
	return slices.ContainsFunc(d.Pins, func(p fwmark.Pin) bool {
		return slices.Contains(p.Devices, device.Name) && p.Mark.Value != device.Mark
	})
}

// held returns the marks that go and may still be carried by a device, a service
// or a connection: their guards stay. A device keeps its number where another mark
// selects it as well; then the one that goes is held until that mark's guards stand.
func (d Decision) held() []fwmark.Mark {
	if len(d.Devices.Unread) > 0 || d.Table.Unread && d.scope != nothing {
		return d.going()
	}
	var held []fwmark.Mark
	releases, tunnels, leaving := d.releases(), d.tunnelMarks(), d.leaving()
	for _, m := range d.going() {
		carries := func(device wg.Device) bool {
			selects := func(p fwmark.Pin) bool { return p.Mark.Selects(device.Mark) }
			guarded := func(p fwmark.Pin) bool { return selects(p) && d.Guarded(p.Mark) }
			released := slices.ContainsFunc(releases, func(c wg.Change) bool { return c.Device == device.Name })
			waits := d.waits(device) && !slices.Contains(tunnels, device.Mark)
			return m.Selects(device.Mark) && (released || waits || slices.ContainsFunc(d.Pins, selects) && !slices.ContainsFunc(d.Pins, guarded))
		}
		leaves := slices.ContainsFunc(leaving, func(p fwmark.Pin) bool { return p.Mark == m })
		if leaves || slices.ContainsFunc(d.Devices.Found, carries) || d.keepsServices(m) || d.heldBySockets(m) {
			held = append(held, m)
		}
	}
	return held
}

// tunnelMarks returns the marks that are never taken off a device: full tunnels
// have their rules found by them.
func (d Decision) tunnelMarks() []uint32 {
	marks := policy.NotMarks(d.Facts)
	for _, t := range d.Tunnels {
		marks = append(marks, t.Mark.Value)
	}
	slices.Sort(marks)
	return slices.Compact(marks)
}

func ruleSteps(steps []policy.Step) []Step {
	list := make([]Step, len(steps))
	for i, s := range steps {
		list[i] = RuleStep{s}
	}
	return list
}

func deviceSteps(changes []wg.Change) []Step {
	list := make([]Step, len(changes))
	for i, c := range changes {
		list[i] = DeviceStep{c}
	}
	return list
}
