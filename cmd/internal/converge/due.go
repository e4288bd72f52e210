package converge

import (
	"maps"
	"slices"

	"wg-multihome/policy"
	"wg-multihome/wg"
)

// dueBy returns the devices that steps make due for a refresh: what they carry
// gets another way.
func (v View) dueBy(steps []policy.Step) []string {
	var devices []string
	for _, s := range steps {
		for _, m := range v.Wanted.Reroutes(s) {
			for _, p := range v.Pins {
				if p.Mark == m {
					devices = append(devices, p.Devices...)
				}
			}
		}
	}
	return v.perhaps(devices)
}

// perhaps returns those of the devices that are there, or that did not answer
// when they were read: those are to be refreshed once they do. They are sorted,
// each once.
func (v View) perhaps(devices []string) []string {
	unread := slices.DeleteFunc(slices.Clone(devices), func(name string) bool { return !slices.Contains(v.Unread, name) })
	all := append(v.there(devices), unread...)
	slices.Sort(all)
	return slices.Compact(all)
}

// there returns those of the devices that are there, sorted, each once.
func (v View) there(devices []string) []string {
	devices = slices.DeleteFunc(slices.Clone(devices), func(name string) bool {
		return !slices.ContainsFunc(v.Devices, func(d wg.Device) bool { return d.Name == name })
	})
	slices.Sort(devices)
	return slices.Compact(devices)
}

// note notes that devices are to be refreshed, before the step that makes them
// so. Where that cannot be written, this run remembers it.
func (h *Host) note(devices ...string) {
	for _, d := range devices {
		if err := h.State.NoteDue(d); err != nil {
			h.Log.Errorf("%s", err)
			h.unwritten[d] = true
		}
	}
}

// due returns the devices that are to be refreshed, each with its note, and
// leaves out those that this run has tried in vain.
func (h *Host) due() (map[string]string, error) {
	notes, err := h.State.Due()
	due := map[string]string{}
	for d := range h.unwritten {
		due[d] = ""
	}
	maps.Copy(due, notes)
	for d, note := range h.tried {
		if now, is := due[d]; is && now == note {
			delete(due, d)
		}
	}
	return due, err
}
