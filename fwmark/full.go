package fwmark

import (
	"net/netip"
	"slices"
)

// findFull makes a pin of the mark F of each pinned device that is a full
// tunnel, and takes the device from the pin of its uplink's own mark. A
// tunnel whose F is that mark's number needs none: the device has it anyway.
//
// Where F may match packets of another uplink's mark, or is the number of a
// table of ours, it cannot have rules of its own: then the device gets its
// uplink's mark, and `wg-quick down` will not find its rules. That is an error,
// but nobody's mark is in doubt for it.
func (r *resolver) findFull(tunnels []Tunnel, tables map[uint32]netip.Addr) {
	owner := map[string]*Intent{}
	for i := range r.intents {
		for _, d := range r.intents[i].Devices {
			owner[d] = &r.intents[i]
		}
	}
	placed := map[string]bool{}
	for _, t := range tunnels {
		in := owner[t.Device]
		if in == nil {
			continue
		}
		if in.Mark.Value == t.Mark.Value {
			placed[t.Device] = true
			continue
		}
		if !r.fits(t, *in, tables) {
			continue
		}
		p := Pin{Mark: t.Mark, Uplink: in.Uplink, Full: true}
		if !placed[t.Device] {
			placed[t.Device] = true
			p.Devices = []string{t.Device}
			if slices.Contains(in.RotatePort, t.Device) {
				p.RotatePort = p.Devices
			}
			in.Devices = slices.DeleteFunc(slices.Clone(in.Devices), func(d string) bool { return d == t.Device })
		}
		r.addFull(p, in.Mark)
	}
}

// addFull adds a pin to those of full tunnels: two of one uplink may share an
// F. What is in doubt about their uplink's mark is so about F.
func (r *resolver) addFull(p Pin, own Mark) {
	for _, problem := range r.problems {
		if slices.Contains(problem.Marks, own) {
			r.doubtful[p.Mark] = true
		}
	}
	for i := range r.full {
		if f := &r.full[i]; f.Mark == p.Mark {
			f.Devices = append(f.Devices, p.Devices...)
			f.RotatePort = append(f.RotatePort, p.RotatePort...)
			return
		}
	}
	r.full = append(r.full, p)
}

// fits reports whether F can have a block that leads to the uplink.
func (r *resolver) fits(t Tunnel, in Intent, tables map[uint32]netip.Addr) bool {
	if addr, is := tables[t.Mark.Value]; is {
		r.refuse(nil, "%s: mark %s of the full tunnel %q is the number of the table of address %s, so it gets mark %s", in.Origin, t.Mark, t.Device, addr, in.Mark)
		return false
	}
	for _, other := range r.intents {
		if !other.Mark.IsZero() && other.Uplink != in.Uplink && other.Mark.Overlaps(t.Mark) {
			r.refuse(nil, "%s: mark %s of the full tunnel %q can match packets of mark %s of uplink %q, so it gets mark %s", in.Origin, t.Mark, t.Device, other.Mark, other.Uplink, in.Mark)
			return false
		}
	}
	for _, other := range r.full {
		if other.Uplink != in.Uplink && other.Mark.Overlaps(t.Mark) {
			r.refuse(nil, "%s: mark %s of the full tunnel %q can match packets of another one's by uplink %q, so it gets mark %s", in.Origin, t.Mark, t.Device, other.Uplink, in.Mark)
			return false
		}
	}
	return true
}
