package converge

import (
	"fmt"
	"slices"

	"wg-multihome/policy"
)

// readTunnels finds the full tunnels among the devices. One that wg-quick has
// not yet made a rule for shows in the table of its mark, which is read here:
// nothing else says that this table matters.
func (h *Host) readTunnels(v *View) error {
	marks := map[string]uint32{}
	known := map[uint32]bool{0: true}
	for _, r := range v.Facts.Routes {
		known[r.Table] = true
	}
	var tables []uint32
	for _, d := range v.Devices {
		marks[d.Name] = d.Mark
		if !known[d.Mark] {
			known[d.Mark] = true
			tables = append(tables, d.Mark)
		}
	}
	if len(tables) > 0 {
		routes, err := h.kernel.Tables(tables)
		if err != nil {
			return fmt.Errorf("read the tables of WireGuard's marks: %w", err)
		}
		v.Facts.Routes = append(v.Facts.Routes, routes...)
	}
	v.Tunnels = policy.Tunnels(v.Facts, marks)
	return nil
}

// contradictions name the devices whose file sets another mark than the one
// that they have from us: each reload takes ours off until the next run.
func (v View) contradictions() []string {
	var say []string
	for _, p := range v.Pins {
		for _, device := range v.there(p.Devices) {
			f, err := v.file(device)
			if err == nil && f.Mark != 0 && f.Mark != p.Mark.Value {
				say = append(say, fmt.Sprintf("%s: FwMark = %#x is not mark %s of uplink %q, which %q has", f.Path, f.Mark, p.Mark, p.Uplink, device))
			}
		}
	}
	return say
}

// tunnelMarks returns the marks that are never taken off a device: full tunnels
// have their rules found by them.
func (v View) tunnelMarks() []uint32 {
	marks := policy.NotMarks(v.Facts)
	for _, t := range v.Tunnels {
		marks = append(marks, t.Mark.Value)
	}
	slices.Sort(marks)
	return slices.Compact(marks)
}
