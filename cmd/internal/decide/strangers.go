package decide

import (
	"fmt"
	"slices"

	"wg-multihome/policy"
	"wg-multihome/wg"
)

// strangers names the devices that are listed, that are there, and that are no
// WireGuard devices: nothing of them gets a mark. One that is not there may be one
// when it comes.
func (d Decision) strangers() []error {
	var errs []error
	for _, p := range d.Pins {
		for _, name := range p.Devices {
			i := slices.IndexFunc(d.Facts.Links, func(l policy.Link) bool { return l.Name == name })
			found := slices.ContainsFunc(d.Devices.Found, func(f wg.Device) bool { return f.Name == name })
			if i >= 0 && !found && !slices.Contains(d.Devices.Unread, name) {
				errs = append(errs, fmt.Errorf("device %q, which uplink %q lists, is no WireGuard device%s: it is not pinned", name, p.Uplink, stranger(d.Facts.Links[i].Kind)))
			}
		}
	}
	return errs
}

// stranger says what a device is instead.
func stranger(kind string) string {
	switch kind {
	case "":
		return ""
	case "amneziawg":
		return " that can be told its mark from here, but AmneziaWG's (FwMark in its own file gives it one)"
	case "tun":
		return ", as no process answers for it"
	}
	return fmt.Sprintf(", but of kind %q", kind)
}
