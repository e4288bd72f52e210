package decide

import (
	"slices"

	"wg-multihome/fwmark"
	"wg-multihome/wg"
)

// DueBy returns the devices that steps make due for a refresh: they get a mark,
// or what they carry gets another way.
func (d Decision) DueBy(steps []Step) []string {
	var devices []string
	for _, s := range steps {
		switch s := s.(type) {
		case RuleStep:
			devices = append(devices, d.Reachable(d.rerouted(s))...)
		case DeviceStep:
			if s.Mark != 0 {
				devices = append(devices, s.Device)
			}
		}
	}
	slices.Sort(devices)
	return slices.Compact(devices)
}

// rerouted returns the devices of the marks whose packets a step gives another
// way.
func (d Decision) rerouted(s RuleStep) []string {
	var devices []string
	for _, m := range d.Rules.Reroutes(s.Step) {
		for _, p := range d.Pins {
			if p.Mark == m {
				devices = append(devices, p.Devices...)
			}
		}
	}
	return devices
}

// Reachable returns those of the devices that are there, or that did not answer
// when they were read: those are to be refreshed once they do. They are sorted,
// each once.
func (d Decision) Reachable(devices []string) []string {
	return d.devices(devices, func(name string) bool { return d.found(name) || slices.Contains(d.Devices.Unread, name) })
}

// Present returns those of the devices that are there, sorted, each once.
func (d Decision) Present(devices []string) []string { return d.devices(devices, d.found) }

func (d Decision) devices(names []string, is func(string) bool) []string {
	list := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !is(name) })
	slices.Sort(list)
	return slices.Compact(list)
}

func (d Decision) found(name string) bool {
	return slices.ContainsFunc(d.Devices.Found, func(device wg.Device) bool { return device.Name == name })
}

// PinnedDevices returns the devices of all pins, sorted.
func (d Decision) PinnedDevices() []string {
	var devices []string
	for _, p := range d.Pins {
		devices = append(devices, p.Devices...)
	}
	slices.Sort(devices)
	return devices
}

// PinOf returns the mark of an uplink and the devices that are pinned to it;
// the zero Mark where it has none. Of two, the one is kept because of an error in
// the configuration, and the other one is what it says.
func (d Decision) PinOf(uplink string) (mark fwmark.Mark, devices []string) {
	for _, p := range d.Pins {
		if p.Uplink == uplink {
			if !p.Full && (mark.IsZero() || !p.Kept) {
				mark = p.Mark
			}
			devices = append(devices, p.Devices...)
		}
	}
	slices.Sort(devices)
	return mark, devices
}

// Families returns the families in which an uplink has an address and a table.
func (d Decision) Families(uplink string) (families [2]bool) {
	for _, u := range d.Uplinks {
		for _, f := range fwmark.Families {
			if u.Name == uplink && u.Routed(f) {
				families[f] = true
			}
		}
	}
	return families
}
