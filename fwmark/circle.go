package fwmark

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// checkCircles refuses a device that is pinned to itself, at once or by way of
// others: what it sends could leave by nothing but a tunnel in that tunnel. The
// devices of a circle are taken from their uplinks; one that only leads into a
// circle is pinned all the same. By now no two uplinks list one device.
func (r *resolver) checkCircles() {
	owner := map[string]*Intent{}
	for i := range r.intents {
		for _, device := range r.intents[i].Devices {
			owner[device] = &r.intents[i]
		}
	}
	seen := map[string]bool{}
	for _, device := range slices.Sorted(maps.Keys(owner)) {
		var path []string
		for owner[device] != nil && !seen[device] {
			seen[device] = true
			path = append(path, device)
			device = owner[device].Uplink
		}
		if at := slices.Index(path, device); at >= 0 {
			r.refuseCircle(path[at:], owner)
		}
	}
}

// refuseCircle refuses devices of which each is pinned to the next one, and the
// last one to the first.
func (r *resolver) refuseCircle(devices []string, owner map[string]*Intent) {
	if len(devices) == 1 {
		r.refuse(nil, "%s pins WireGuard device %q to itself", owner[devices[0]].Origin, devices[0])
	} else {
		steps := make([]string, len(devices))
		for i, d := range devices {
			steps[i] = fmt.Sprintf("%q to %q (%s)", d, owner[d].Uplink, owner[d].Origin)
		}
		r.refuse(nil, "WireGuard devices are pinned in a circle: %s", strings.Join(steps, ", "))
	}
	for _, device := range devices {
		in := owner[device]
		in.Devices = slices.DeleteFunc(slices.Clone(in.Devices), func(d string) bool { return d == device })
	}
}
