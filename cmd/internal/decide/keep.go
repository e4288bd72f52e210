package decide

import (
	"slices"

	"wg-multihome/fwmark"
)

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
