package policy

import (
	"slices"

	"wg-multihome/fwmark"
)

// Leads returns, of each mark that has a look-up of ours, the devices that the
// default routes of its tables lead through, in whichever family. A mark whose
// tables are empty is there without a device.
func Leads(f Facts) map[fwmark.Mark][]string {
	own := ownDefaults{routes: f.Routes}
	leads := map[fwmark.Mark][]string{}
	for _, r := range f.Rules {
		if !r.Ours() || !r.marked() || !r.isLookup() {
			continue
		}
		devices := leads[r.Mark]
		if d := own.of(r.Family, r.Table).Device; d != "" && !slices.Contains(devices, d) {
			devices = append(devices, d)
		}
		leads[r.Mark] = devices
	}
	return leads
}
