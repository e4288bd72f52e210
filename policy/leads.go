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

// LedTo returns the devices that the look-ups of a mark, and of what it has in
// common with others, lead to, whoever made the rules and the routes.
func LedTo(f Facts, m fwmark.Mark) []string {
	tables := map[tableKey]bool{}
	for i := range f.Rules {
		if r := &f.Rules[i]; r.marked() && r.isLookup() && r.Mark.Overlaps(m) {
			tables[tableKey{r.Family, r.Table}] = true
		}
	}
	var devices []string
	for i := range f.Routes {
		r := &f.Routes[i]
		if r.isDefault() && r.Type == Unicast && r.Device != "" && tables[r.tableKey()] && !slices.Contains(devices, r.Device) {
			devices = append(devices, r.Device)
		}
	}
	return devices
}
