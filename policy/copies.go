package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"wg-multihome/fwmark"
)

// MaxCopies bounds how many routes of others a table of ours holds.
const MaxCopies = 4096

// ways are routes that are copied all or none.
type ways struct {
	what   string
	routes []Route
	more   bool // there are more of them, which were not kept
}

// destinationsOf gathers whose destinations are. passed are the foreign rules
// that ours stand in front of, and would not by the configured priority.
func destinationsOf(f Facts, uplinks []fwmark.Uplink, away map[string]bool, passed []Rule) *Destinations {
	d := &Destinations{
		facts: f, away: away, uplinks: map[string]bool{},
		own: map[uplinkKey][]Route{}, onLink: map[uplinkKey]*prefixSet{}, rest: map[uplinkKey]Route{}, copied: map[uplinkKey]*prefixes{},
	}
	for _, u := range uplinks {
		d.uplinks[u.Name] = true
	}
	d.findOwn()
	lists := []ways{throughRoutes(uplinks)}
	for i := range passed {
		lists = append(lists, d.behind(&passed[i]))
	}
	d.share(append(lists, d.mainsPrivate()...))
	d.findLinkLocal()
	return d
}

// findOwn finds what is an uplink's own: main's longer routes through it; and
// what is on-link by its addresses, also where main has no route to that.
func (d *Destinations) findOwn() {
	onLink := func(device string, p netip.Prefix) {
		k := uplinkKey{fwmark.FamilyOf(p.Addr()), device}
		if d.onLink[k] == nil {
			d.onLink[k] = &prefixSet{}
		}
		d.onLink[k].add(p)
	}
	for i := range d.facts.Routes {
		r := &d.facts.Routes[i]
		if r.Table != TableMain || r.Type != Unicast || r.isDefault() || !d.uplinks[r.Device] {
			continue
		}
		k := uplinkKey{r.Family, r.Device}
		d.own[k] = append(d.own[k], d.copyOf(r, r.Dst))
		if r.connected() {
			onLink(r.Device, r.Dst)
		}
	}
	for i := range d.facts.Addrs {
		if a := &d.facts.Addrs[i]; d.uplinks[a.Device] && !a.Prefix.IsSingleIP() {
			onLink(a.Device, a.Prefix.Masked())
		}
	}
	for k, list := range d.own {
		if feed := d.feed(k.family, TableMain, k.uplink); len(list) > MaxCopies || feed != nil {
			d.leave(fmt.Sprintf("main's IPv%s routes through %s", k.family, k.uplink))
			list = onLinkOf(list, feed)
		}
		d.own[k] = best(list)
	}
}

// onLinkOf leaves of too many routes those without a gateway, where not even
// these are too many.
func onLinkOf(list []Route, feed *Feed) []Route {
	near := 0
	for i := range list {
		if list[i].near() {
			near++
		}
	}
	if near > MaxCopies || feed != nil && feed.near {
		return nil
	}
	return slices.DeleteFunc(list, func(r Route) bool { return r.Gateway.IsValid() })
}

func (d *Destinations) feed(family fwmark.Family, table uint32, device string) *Feed {
	for _, f := range d.facts.Feeds {
		if f.Family == family && f.Table == table && f.Device == device {
			return f
		}
	}
	return nil
}

func (d *Destinations) leave(what string) {
	d.Left = append(d.Left, fmt.Sprintf("%s: more than %d, none is copied, and each uplink's default leads there", what, MaxCopies))
}

// copyOf returns a route as tables of ours hold it, but for its table. A source
// that is not there any more would be refused.
func (d *Destinations) copyOf(r *Route, dst netip.Prefix) Route {
	c := Route{Family: r.Family, Dst: dst, Type: Unicast, Gateway: r.Gateway, Device: r.Device, Metric: r.Metric,
		Protocol: Protocol, MTU: r.MTU, AdvMSS: r.AdvMSS}
	if r.Src.IsValid() && d.isSource(r.Src) {
		c.Src = r.Src
	}
	return c
}

func (d *Destinations) isSource(a netip.Addr) bool {
	if d.sources == nil {
		d.sources = make(map[netip.Addr]bool, len(d.facts.Addrs))
		for i := range d.facts.Addrs {
			if a := &d.facts.Addrs[i]; !a.Unready {
				d.sources[a.Prefix.Addr()] = true
			}
		}
	}
	return d.sources[a]
}

// best leaves of routes to one destination the one with the lowest metric, the
// first one of several, and sorts by destination.
func best(list []Route) []Route {
	slices.SortStableFunc(list, func(a, b Route) int {
		return cmp.Or(a.Dst.Addr().Compare(b.Dst.Addr()), cmp.Compare(a.Dst.Bits(), b.Dst.Bits()), cmp.Compare(a.Metric, b.Metric))
	})
	return slices.CompactFunc(list, func(a, b Route) bool { return a.Dst == b.Dst })
}

// throughRoutes are those to what the configuration gives to an uplink for all.
func throughRoutes(uplinks []fwmark.Uplink) ways {
	w := ways{what: "destinations that are given to an uplink"}
	for _, u := range uplinks {
		for _, p := range u.Through {
			family := fwmark.FamilyOf(p.Addr())
			if !u.Routed(family) {
				continue
			}
			r := Route{Family: family, Dst: p, Type: Unicast, Gateway: u.Gateways[family], Device: u.Name, Src: u.Address[family], Protocol: Protocol}
			if r.Gateway.IsUnspecified() {
				r.Gateway = netip.Addr{}
			}
			w.routes = append(w.routes, r)
		}
	}
	return w
}

// mainsPrivate are main's routes to private destinations through devices that
// lead away, where main has no better one, by device.
func (d *Destinations) mainsPrivate() []ways {
	lan := map[netip.Prefix]uint32{} // metrics of what main has through others
	byDevice := map[uplinkKey][]Route{}
	private := func(i int) *Route {
		if r := &d.facts.Routes[i]; r.Table == TableMain && !r.isDefault() && IsPrivate(r.Dst) {
			return r
		}
		return nil
	}
	for i := range d.facts.Routes {
		if r := private(i); r != nil && !d.away[r.Device] {
			if metric, is := lan[r.Dst]; !is || r.Metric < metric {
				lan[r.Dst] = r.Metric
			}
		}
	}
	for i := range d.facts.Routes {
		r := private(i)
		if r == nil || r.Type != Unicast || !d.away[r.Device] {
			continue
		}
		if metric, is := lan[r.Dst]; !is || r.Metric < metric {
			k := uplinkKey{r.Family, r.Device}
			byDevice[k] = append(byDevice[k], d.copyOf(r, r.Dst))
		}
	}
	lists := make([]ways, 0, len(byDevice))
	for k, routes := range byDevice {
		feed := d.feed(k.family, TableMain, k.uplink)
		lists = append(lists, ways{
			what:   fmt.Sprintf("main's IPv%s routes to private destinations through %s", k.family, k.uplink),
			routes: routes, more: feed != nil && feed.near,
		})
	}
	slices.SortFunc(lists, func(a, b ways) int { // short ones first: there is room for them
		return cmp.Or(cmp.Compare(len(a.routes), len(b.routes)), cmp.Compare(a.what, b.what))
	})
	return lists
}

// behind are the private destinations that the table of a foreign rule leads
// anywhere, as far as the rule selects them.
func (d *Destinations) behind(rule *Rule) ways {
	w := ways{what: fmt.Sprintf("IPv%s routes of table %d to private destinations", rule.Family, rule.Table)}
	for i := range d.facts.Routes {
		r := &d.facts.Routes[i]
		if r.Family != rule.Family || r.Table != rule.Table || r.Type != Unicast || r.Device == "" ||
			rule.Suppresses && r.Dst.Bits() <= int(rule.Suppress) {
			continue
		}
		dst := r.Dst
		if rule.To.IsValid() {
			if !rule.To.Overlaps(dst) {
				continue
			}
			if rule.To.Bits() > dst.Bits() {
				dst = rule.To
			}
		}
		if IsPrivate(dst) { // never a default
			w.routes = append(w.routes, d.copyOf(r, dst))
		}
	}
	for _, f := range d.facts.Feeds {
		w.more = w.more || f.Family == rule.Family && f.Table == rule.Table && f.near
	}
	return w
}

// share takes ways in, of one destination the first one's, as long as there is
// room for all of them, beside what each uplink has of its own.
func (d *Destinations) share(lists []ways) {
	seen := map[netip.Prefix]bool{}
	room := [2]int{MaxCopies, MaxCopies}
	for k, own := range d.own {
		public := 0 // private ones are shared as well
		for i := range own {
			if !IsPrivate(own[i].Dst) {
				public++
			}
		}
		room[k.family] = min(room[k.family], MaxCopies-public)
	}
	for _, w := range lists {
		var fresh [2][]Route
		for _, r := range best(w.routes) {
			if !seen[r.Dst] {
				fresh[r.Family] = append(fresh[r.Family], r)
			}
		}
		for family, list := range fresh {
			if w.more || len(d.shared[family])+len(list) > room[family] {
				d.leave(w.what)
				break
			}
			for _, r := range list {
				seen[r.Dst] = true
			}
			d.shared[family] = append(d.shared[family], list...)
		}
	}
}

// findLinkLocal finds the links of devices that lead away: who sends to a
// neighbour on one of them names it.
func (d *Destinations) findLinkLocal() {
	for i := range d.facts.Routes {
		r := &d.facts.Routes[i]
		if r.Family == fwmark.IPv6 && r.Table == TableMain && r.Dst == linkLocal && r.Type == Unicast && d.away[r.Device] {
			d.links = append(d.links, d.copyOf(r, r.Dst))
		}
	}
	slices.SortFunc(d.links, func(a, b Route) int { return cmp.Compare(a.Device, b.Device) })
	d.links = slices.CompactFunc(d.links, func(a, b Route) bool { return a.Device == b.Device })
	for i := range d.links {
		d.links[i].Metric = metric(fwmark.IPv6) + 1 + uint32(i)
	}
}

var linkLocal = netip.MustParsePrefix("fe80::/64")

// Shared returns the routes to destinations that everybody reaches one way, as main
// or a table of others has them.
func (d *Destinations) Shared() []Route {
	list := slices.Concat(d.shared[:]...)
	for i := range list {
		r := &list[i]
		r.Table, r.Metric = TableMain, metric(r.Family)
	}
	return list
}

// Copies returns what an uplink's tables hold of a family but for their
// defaults: routes without a table.
func (d *Destinations) Copies(uplink string, family fwmark.Family) []Route {
	k := uplinkKey{family, uplink}
	own := make(map[netip.Prefix]bool, len(d.own[k]))
	list := make([]Route, 0, len(d.own[k])+len(d.shared[family]))
	add := func(r Route) {
		r.Metric = metric(family)
		list = append(list, r)
	}
	for _, r := range d.own[k] {
		own[r.Dst] = true
		add(r)
	}
	for _, r := range d.shared[family] {
		if len(list) < MaxCopies && !own[r.Dst] && !d.onLink[k].covers(r.Dst) {
			if r.Device == uplink { // given to it
				r.Src = netip.Addr{}
			}
			add(r)
		}
	}
	if family == fwmark.IPv6 {
		for _, r := range d.links {
			if r.Device != uplink {
				list = append(list, r)
			}
		}
	}
	return list
}

// needed leaves of what a table is to hold what its default does not do as well.
func needed(list []Route, fallback *Route) []Route {
	spare := func(r *Route) bool {
		return r.Device == fallback.Device && r.Gateway.IsValid() && r.Gateway == fallback.Gateway &&
			!r.Src.IsValid() && r.MTU == 0 && r.AdvMSS == 0
	}
	var others prefixSet
	for i := range list {
		if !spare(&list[i]) {
			others.add(list[i].Dst)
		}
	}
	return filter(list, func(r *Route) bool { return !spare(r) || others.covers(r.Dst) })
}
