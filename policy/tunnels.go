package policy

import (
	"cmp"
	"slices"

	"wg-multihome/fwmark"
)

// Tunnels finds full tunnels: `not fwmark F lookup T`, not ours, where T's
// default goes through a device. Before that rule exists, it is the device's
// own mark where that, taken for a table as wg-quick does, has a route through
// it; the kernel's own ones in table 255, to the device's addresses, are none.
// marks are those of the WireGuard devices, by name; 0: off. F is never read
// from the device alone: after a reload that is 0.
//
// They are sorted by device, and of one device the mark that it has comes
// first.
func Tunnels(f Facts, marks map[string]uint32) []fwmark.Tunnel {
	seen := map[fwmark.Tunnel]bool{}
	for _, r := range f.Rules {
		if !r.Invert || r.Mark.Mask == 0 || r.Mark.Value == 0 || r.Ours() || !r.isLookup() || r.Opaque ||
			r.From.IsValid() || r.To.IsValid() || r.Iif != "" || r.Oif != "" {
			continue
		}
		for device := range everywhereBy(f, r.Family, r.Table) {
			if _, is := marks[device]; is {
				seen[fwmark.Tunnel{Device: device, Mark: r.Mark}] = true
			}
		}
	}
	ruled := map[string]bool{}
	for t := range seen {
		ruled[t.Device] = true
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
	others := func(t fwmark.Tunnel) int { // 0 for the device's own mark
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

// everywhereBy returns the devices that a table's default, or both its halves,
// lead through.
func everywhereBy(f Facts, family fwmark.Family, table uint32) map[string]bool {
	leads := map[string]bool{}
	half := map[string]*halves{}
	for _, r := range f.Routes {
		if r.Family != family || r.Table != table || r.Type != Unicast || r.Dst.Bits() > 1 {
			continue
		}
		if half[r.Device] == nil {
			half[r.Device] = &halves{}
		}
		half[r.Device].add(r)
		if r.isDefault() || half[r.Device].both() {
			leads[r.Device] = true
		}
	}
	return leads
}
