package decide

import (
	"slices"

	"wg-multihome/fwmark"
)

// keepListed has pins list what was in force last, and no pin lists: while the
// configuration has an error it may be that which cannot be read. A service or a device
// that comes anew meanwhile is pinned as before, also to a mark that has guards alone;
// where the mark is another uplink's now, it is refused.
func (d *Decision) keepListed() {
	if d.Before == nil {
		return
	}
	for _, in := range d.Before.Intents {
		i := slices.IndexFunc(d.Pins, func(p fwmark.Pin) bool { return p.Uplink == in.Uplink && !p.Full && !p.Kept })
		if i < 0 {
			i = slices.IndexFunc(d.Pins, func(p fwmark.Pin) bool {
				return p.Mark == in.Mark && !p.Full && (p.Uplink == in.Uplink || p.Uplink == "" && !d.notedForOther(p.Mark, in.Uplink))
			})
		}
		if in.Mark.IsZero() {
			continue
		}
		d.keepFull(in)
		if i < 0 {
			d.refuseListed(in)
			continue
		}
		p := &d.Pins[i]
		p.Cgroups = append(slices.Clip(p.Cgroups), d.unpinned(in.Cgroups, func(p fwmark.Pin) []string { return p.Cgroups })...)
		p.Devices = append(slices.Clip(p.Devices), d.unpinned(in.Devices, func(p fwmark.Pin) []string { return p.Devices })...)
	}
}

// keepFull has the marks of full tunnels list those that an uplink has listed: they keep
// them.
func (d *Decision) keepFull(in fwmark.Intent) {
	for _, device := range d.unpinned(in.Devices, func(p fwmark.Pin) []string { return p.Devices }) {
		i := slices.IndexFunc(d.Pins, func(p fwmark.Pin) bool {
			return p.Full && p.Uplink == in.Uplink && slices.Contains(d.Tunnels, fwmark.Tunnel{Device: device, Mark: p.Mark})
		})
		if i >= 0 {
			d.Pins[i].Devices = append(slices.Clip(d.Pins[i].Devices), device)
		}
	}
}

// unpinned returns those of the names that no pin lists.
func (d *Decision) unpinned(names []string, listed func(fwmark.Pin) []string) (list []string) {
	for _, name := range names {
		if !slices.ContainsFunc(d.Pins, func(p fwmark.Pin) bool { return slices.Contains(listed(p), name) }) {
			list = append(list, name)
		}
	}
	return list
}

// keepDevices has pins list the devices that carry their marks and that no pin
// lists. While the configuration has an error pinned devices keep their marks,
// though it may not say any more whose they are: hooks are told of them, and
// they are refreshed, as before.
func (d *Decision) keepDevices() {
	listed := map[string]bool{}
	for _, name := range d.PinnedDevices() {
		listed[name] = true
	}
	for _, device := range d.Devices.Found {
		i := slices.IndexFunc(d.Pins, func(p fwmark.Pin) bool { return p.Mark.Value == device.Mark })
		if i < 0 || listed[device.Name] {
			continue
		}
		p := &d.Pins[i]
		p.Devices = append(slices.Clip(p.Devices), device.Name) // those of the configuration stay as they are
		if d.rotates(device.Name) {
			p.RotatePort = append(slices.Clip(p.RotatePort), device.Name)
		}
	}
}

// rotates reports whether the configuration has a device choose another port at
// a refresh.
func (d *Decision) rotates(device string) bool {
	return d.Config.WireGuard[device].RotatePort || slices.ContainsFunc(d.Config.Intents, func(in fwmark.Intent) bool {
		return slices.Contains(in.RotatePort, device)
	})
}
