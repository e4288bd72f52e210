package policy

import (
	"net/netip"

	"go4.org/netipx"

	"wg-multihome/fwmark"
)

// DestinationsByDevice returns the destinations that are reached through each
// device without a default, by pinned packets too:
//
//   - those of routes of /2 and longer, in main and in the tables that foreign
//     rules look up;
//   - the `to` of a foreign rule whose table leads it through the device;
//   - the device's broadcast addresses: the one that was set, and the last
//     address of each network, which the kernel takes for one in any case
//     (fib_add_ifaddr).
//
// Of devices that lead away (see Away) only private destinations are. Of a device
// that has a feed they are merged: of at most ManyRanges ranges all, of more the
// first ones and one more than that.
func DestinationsByDevice(f Facts, away map[string]bool) map[string][]netip.Prefix {
	d := destinations{away: away, tables: map[tableKey]bool{}, devices: map[tableEntry][]string{}, byDevice: map[string][]netip.Prefix{}}
	for _, family := range fwmark.Families {
		d.tables[tableKey{family, TableMain}] = true
	}
	for _, r := range f.Rules {
		if !r.Ours() && r.Action == Lookup {
			d.tables[tableKey{r.Family, r.Table}] = true
		}
	}
	for _, r := range f.Routes {
		d.addRoute(r)
	}
	feeds := map[string][]*Feed{}
	for _, feed := range f.Feeds {
		if d.tables[tableKey{feed.Family, feed.Table}] && feed.Device != "" {
			feeds[feed.Device] = append(feeds[feed.Device], feed)
		}
	}
	for _, r := range f.Rules {
		d.addRule(r)
	}
	for _, a := range f.Addrs {
		d.addBroadcast(a)
	}
	for device, of := range feeds {
		list := merged(d.byDevice[device], of)
		if away[device] {
			list = filter(list, func(p *netip.Prefix) bool { return IsPrivate(*p) || p.IsSingleIP() })
		}
		d.byDevice[device] = list
	}
	return d.byDevice
}

type destinations struct {
	away     map[string]bool
	tables   map[tableKey]bool       // main, and those that foreign rules look up
	devices  map[tableEntry][]string // of their routes
	byDevice map[string][]netip.Prefix
}

// tableEntry is a destination in a table.
type tableEntry struct {
	tableKey
	dst netip.Prefix
}

func (d *destinations) add(device string, p netip.Prefix) {
	d.byDevice[device] = append(d.byDevice[device], p)
}

func (d *destinations) addRoute(r Route) {
	k := tableKey{r.Family, r.Table}
	if !d.tables[k] || r.Type != Unicast || r.Device == "" {
		return
	}
	entry := tableEntry{k, r.Dst}
	d.devices[entry] = append(d.devices[entry], r.Device)
	if r.Dst.Bits() >= 2 && (!d.away[r.Device] || IsPrivate(r.Dst)) {
		d.add(r.Device, r.Dst)
	}
}

// addRule adds the `to` of a foreign rule to every device that its table leads
// it through by a route that the rule does not suppress. Longer routes of that
// table count by themselves.
func (d *destinations) addRule(r Rule) {
	if r.Ours() || r.Invert || r.Action != Lookup || !r.To.IsValid() || r.To.Bits() < 2 {
		return
	}
	for bits := 0; bits <= r.To.Bits(); bits++ {
		if r.Suppresses && bits <= int(r.Suppress) {
			continue
		}
		entry := tableEntry{tableKey{r.Family, r.Table}, netip.PrefixFrom(r.To.Addr(), bits).Masked()}
		for _, device := range d.devices[entry] {
			d.add(device, r.To)
		}
	}
}

func (d *destinations) addBroadcast(a Address) {
	if a.Broadcast.IsValid() {
		d.add(a.Device, netip.PrefixFrom(a.Broadcast, a.Broadcast.BitLen()))
	}
	const pointToPoint = 31 // RFC 3021: networks of this length and longer have none
	if p := a.Prefix; p.Addr().Is4() && p.Bits() < pointToPoint {
		last := netipx.PrefixLastIP(p)
		d.add(a.Device, netip.PrefixFrom(last, last.BitLen()))
	}
}

// Reach returns, by family, the destinations of main's routes of /2 and
// longer, but for those through devices that lead away: what all that is pinned
// reaches without an uplink's table. Where there is a feed they are merged, as
// those of a device are (see DestinationsByDevice).
func Reach(f Facts, away map[string]bool) [2][]netip.Prefix {
	var reach [2][]netip.Prefix
	for _, r := range f.Routes {
		if r.Table == TableMain && r.Type == Unicast && r.Dst.Bits() >= 2 && !away[r.Device] {
			reach[r.Family] = append(reach[r.Family], r.Dst)
		}
	}
	for _, family := range fwmark.Families {
		var feeds []*Feed
		for _, feed := range f.Feeds {
			if feed.Table == TableMain && feed.Family == family && !away[feed.Device] {
				feeds = append(feeds, feed)
			}
		}
		reach[family] = merged(reach[family], feeds)
	}
	return reach
}
