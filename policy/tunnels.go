package policy

import (
	"cmp"
	"slices"

	"wg-multihome/fwmark"
)

// Tunnels finds the full tunnels: WireGuard devices that wg-quick has set up as
// the default way out. Each comes with its mark F, which wg-quick gives to the
// device, and by which `wg-quick down` finds its rules.
//
// marks are the marks that the devices have now, by name; 0 is off. F is never
// taken from there alone, as a reload of the device's configuration sets it to
// 0. F is
//
//   - the mark of a foreign rule `not fwmark F lookup T`, where table T leads
//     everywhere through the device;
//   - while there is no such rule: the device's own mark, if the table of that
//     number has a unicast route through the device. (Table 255 has routes to
//     the device's own addresses, which are of other types.)
//
// The result is sorted by device. Of several marks of a device the one that it
// has now comes first.
func Tunnels(f Facts, marks map[string]uint32) []fwmark.Tunnel {
	seen := map[fwmark.Tunnel]bool{}
	ruled := map[string]bool{}            // devices that have such a rule
	rules := map[tableKey][]fwmark.Mark{} // the marks of such rules, by what they look up
	for _, r := range f.Rules {
		if fullTunnelRule(r) {
			k := tableKey{r.Family, r.Table}
			rules[k] = append(rules[k], r.Mark)
		}
	}
	for k := range devicesEverywhere(f, func(k tableKey) bool { return len(rules[k]) > 0 }) {
		if _, wireguard := marks[k.device]; !wireguard {
			continue
		}
		ruled[k.device] = true
		for _, m := range rules[tableKey{k.family, k.table}] {
			seen[fwmark.Tunnel{Device: k.device, Mark: m}] = true
		}
	}
	for _, r := range f.Routes {
		if mark := marks[r.Device]; mark != 0 && mark == r.Table && r.Type == Unicast && !r.Ours() && !ruled[r.Device] && r.Table != TableMain {
			seen[fwmark.Tunnel{Device: r.Device, Mark: fwmark.Mark{Value: mark, Mask: fwmark.FullMask}}] = true
		}
	}
	tunnels := make([]fwmark.Tunnel, 0, len(seen))
	for t := range seen {
		tunnels = append(tunnels, t)
	}
	others := func(t fwmark.Tunnel) int { // 0 for the mark that the device has
		if marks[t.Device] == t.Mark.Value {
			return 0
		}
		return 1
	}
	slices.SortFunc(tunnels, func(a, b fwmark.Tunnel) int {
		return cmp.Or(cmp.Compare(a.Device, b.Device), cmp.Compare(others(a), others(b)), a.Mark.Compare(b.Mark))
	})
	return tunnels
}

// fullTunnelRule reports whether a rule is foreign and reads `not fwmark F
// lookup T`, as wg-quick writes it for a full tunnel.
func fullTunnelRule(r Rule) bool {
	return r.Invert && r.Mark.Mask != 0 && r.Mark.Value != 0 && !r.Ours() && r.isLookup() && !r.Opaque &&
		!r.From.IsValid() && !r.To.IsValid() && r.Iif == "" && r.Oif == ""
}
