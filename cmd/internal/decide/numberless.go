package decide

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"wg-multihome/fwmark"
)

// While the configuration has an error, the number of an uplink may be one that cannot be
// read, and its last one another uplink's by now. What it pins would leave by main. So
// that gets a number of guards alone, like sockets that are set aside (aside.go), and is
// refused until the error is mended. The number is its uplink's own: what has it can be
// told from what others have.

// refuseListed has what was listed for an uplink last, and what no pin lists, be
// refused.
func (d *Decision) refuseListed(in fwmark.Intent) {
	cgroups := d.unpinned(in.Cgroups, func(p fwmark.Pin) []string { return p.Cgroups })
	devices := d.unpinned(in.Devices, func(p fwmark.Pin) []string { return p.Devices })
	if len(cgroups)+len(devices) == 0 {
		return
	}
	what := strings.Join(slices.Concat(cgroups, devices), ", ")
	m, found := d.refusedBefore(in)
	if !found {
		m, found = d.numberAside(in.Uplink, in.Mark.Mask)
	}
	if !found {
		d.Errs = append(d.Errs, fmt.Errorf("%s of uplink %q cannot be pinned: its mark cannot be read, and no other number is free; mend the configuration", what, in.Uplink))
		return
	}
	d.pinAside(m, in.Uplink)
	p := &d.Pins[slices.IndexFunc(d.Pins, func(p fwmark.Pin) bool { return p.Mark == m })]
	p.Cgroups, p.Devices = append(slices.Clip(p.Cgroups), cgroups...), append(slices.Clip(p.Devices), devices...)
	if d.scope == called { // its script guards no such number, so nothing new gets it
		return
	}
	d.Problems = append(slices.Clip(d.Problems), fwmark.Problem{
		Text: fmt.Sprintf("uplink %q: its mark cannot be read, and %s, which it had, is not its any more: what %s sends is refused, by mark %s, until that is mended", in.Uplink, in.Mark, what, m),
	})
}

// refusedBefore returns the number that an uplink's services or devices have been
// refused by already.
func (d *Decision) refusedBefore(in fwmark.Intent) (m fwmark.Mark, found bool) {
	for _, c := range d.stands {
		configured := slices.ContainsFunc(d.Config.Intents, func(o fwmark.Intent) bool { return !o.Mark.IsZero() && o.Mark.Overlaps(c.Mark) })
		if configured || c.Full || d.aside[c.Mark] != "" || !d.isAside(c.Mark) || !mayBeAside(c.Mark, in.Mark.Mask) {
			continue
		}
		if d.notedForOther(c.Mark, in.Uplink) {
			continue
		}
		has := func(path string) bool { return d.getsMark(c.Mark, d.Cgroups.ByPath[path].ID) }
		carries := func(device string) bool { return d.carries(device, c.Mark) }
		if d.Sockets.Noted.Marks[c.Mark.String()] == in.Uplink || slices.ContainsFunc(in.Cgroups, has) || slices.ContainsFunc(in.Devices, carries) {
			return c.Mark, true
		}
	}
	return fwmark.Mark{}, false
}

// notedForOther reports whether sockets of another uplink have a mark, and may wait with it
// for theirs.
func (d Decision) notedForOther(m fwmark.Mark, uplink string) bool {
	noted := d.Sockets.Noted.Marks[m.String()]
	return noted != "" && noted != uplink
}

// carries reports whether a WireGuard device has a mark's number.
func (d *Decision) carries(device string, m fwmark.Mark) bool {
	for _, found := range d.Devices.Found {
		if found.Name == device {
			return m.Selects(found.Mark)
		}
	}
	return false
}

// Refused returns the uplink that a pin's services and devices are listed for, where
// they are refused as it has no mark; "" of other pins.
func (d Decision) Refused(p fwmark.Pin) (uplink string) {
	if len(p.Cgroups)+len(p.Devices) == 0 {
		return ""
	}
	return d.aside[p.Mark]
}

// claimed returns the configuration's intents, and what pins list besides: while it has
// an error that may be more.
func (d *Decision) claimed() []fwmark.Intent {
	list := slices.Clone(d.Config.Intents)
	for _, p := range d.Pins {
		if uplink := cmp.Or(p.Uplink, d.Refused(p)); uplink != "" {
			list = append(list, fwmark.Intent{Uplink: uplink, Cgroups: p.Cgroups, Devices: p.Devices})
		}
	}
	return list
}
