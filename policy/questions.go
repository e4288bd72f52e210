package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"wg-multihome/fwmark"
)

// Question is a packet that the kernel is asked the way of.
type Question struct {
	Packet
	What   string // whose it is: "mark 0x2005", "source 1.2.3.4"
	Uplink string // what it is to leave by; "": guards alone
	World  bool   // the destination is one that only a default leads to
}

// Answer is what the kernel says of a packet: the device that it leaves by, or
// the error that its sender gets.
type Answer struct {
	Device string
	Errno  syscall.Errno
}

// worlds are addresses in public space. Of each family the first one that no
// longer route leads to is asked for; no packet is sent there.
var worlds = [2][]netip.Addr{
	fwmark.IPv4: {netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("193.0.14.129"), netip.MustParseAddr("199.7.91.13")},
	fwmark.IPv6: {netip.MustParseAddr("2620:fe::9"), netip.MustParseAddr("2001:7fd::1"), netip.MustParseAddr("2a01:111::9")},
}

// Questions returns what the kernel is to be asked once all that is wanted
// stands: for each mark and family, and each pair, where a packet to the world
// goes, and one to a neighbour of the uplink.
func (w Wanted) Questions(f Facts, pins []fwmark.Pin) []Question {
	var list []Question
	for _, family := range fwmark.Families {
		if !f.Families[family] {
			continue
		}
		for _, p := range pins {
			q := Question{Packet: Packet{Mark: p.Mark.Value}, What: "mark " + p.Mark.String(), Uplink: p.Uplink}
			list = append(list, w.toBoth(f, q, family, netip.Addr{})...)
		}
		devices := w.deviceByTable(family)
		for i := range w.Rules {
			r := &w.Rules[i]
			if device := devices[r.Table]; r.Family == family && r.sourced() && r.isLookup() && device != "" {
				src := r.From.Addr()
				q := Question{Packet: Packet{Src: src}, What: "source " + src.String(), Uplink: device}
				list = append(list, w.toBoth(f, q, family, src)...)
			}
		}
	}
	return list
}

// deviceByTable returns where the defaults of uplinks' tables lead.
func (w Wanted) deviceByTable(family fwmark.Family) map[uint32]string {
	devices := map[uint32]string{}
	for i := range w.Routes {
		if r := &w.Routes[i]; r.Family == family && r.isDefault() {
			devices[r.Table] = r.Device
		}
	}
	return devices
}

// toBoth asks for a destination in the world, and for a neighbour: in the network
// of an address of the uplink, by choice of the given one.
func (w Wanted) toBoth(f Facts, q Question, family fwmark.Family, addr netip.Addr) []Question {
	var list []Question
	i := slices.IndexFunc(worlds[family], func(a netip.Addr) bool { return w.isWorld(q.Uplink, a) })
	if i >= 0 {
		world := q
		world.Dst, world.World = worlds[family][i], true
		list = append(list, world)
	}
	if q.Dst = neighbour(f, q.Uplink, family, addr); q.Dst.IsValid() {
		list = append(list, q)
	}
	return list
}

// isWorld reports whether only a default leads to an address, or one that refuses.
func (w Wanted) isWorld(uplink string, a netip.Addr) bool {
	o := w.Destinations.Of(uplink, a)
	return o.Whose == TheRest || o.Whose == Mains && o.Route.isDefault()
}

// neighbour returns an address in the network of an uplink that is none of this
// host's; the zero Addr where there is no such network.
func neighbour(f Facts, uplink string, family fwmark.Family, of netip.Addr) netip.Addr {
	for i := range f.Addrs {
		a := &f.Addrs[i]
		p := a.Prefix
		if a.Device != uplink || fwmark.FamilyOf(p.Addr()) != family || of.IsValid() && p.Addr() != of || p.Bits() > family.Bits()-2 || !a.Global {
			continue
		}
		for n := p.Masked().Addr().Next(); p.Contains(n.Next()); n = n.Next() {
			if !slices.ContainsFunc(f.Addrs, func(o Address) bool { return o.Prefix.Addr() == n }) {
				return n
			}
		}
	}
	return netip.Addr{}
}

// Astray says in one line what is not as it is to be, "" where the kernel's answer
// is what is wanted: where the packet goes instead, and by which rule or route.
func (w Wanted) Astray(f Facts, q Question, a Answer) string {
	owner := w.Destinations.Of(q.Uplink, q.Dst)
	want := owner.Route.Device
	if owner.Whose == Mains && owner.Route.isDefault() { // an unreachable default: it is not meant for what is pinned
		want = w.Destinations.rest[uplinkKey{fwmark.FamilyOf(q.Dst), q.Uplink}].Device
	}
	if a.Device == want && (a.Errno == 0) == (want != "") {
		return ""
	}
	goes := "leaves by " + a.Device
	if a.Errno != 0 {
		goes = fmt.Sprintf("is refused (%s)", a.Errno)
	}
	wanted := "by " + want
	if want == "" {
		wanted = "refused"
	}
	return fmt.Sprintf("%s to %s %s, wanted: %s; %s", q.What, q.Dst, goes, wanted, inTheWay(f, q, a))
}

// inTheWay names the rule, or the route, that decides about a packet.
func inTheWay(f Facts, q Question, a Answer) string {
	v := Routing{Rules: f.Rules, Routes: f.Routes, Links: f.Links}.Walk(q.Packet)
	switch {
	case (v.Errno != 0) != (a.Errno != 0) || v.Route.Device != a.Device:
		return "the kernel goes by what is not known here"
	case v.Rule.Action == Lookup && v.Rule.Priority != 0:
		if v.Errno != 0 {
			return fmt.Sprintf("`%s` finds a route that refuses it", v.Rule)
		}
		return fmt.Sprintf("`%s` finds `%s`", v.Rule, v.Route)
	case v.Rule.Action == 0:
		return "no rule leads anywhere"
	}
	return fmt.Sprintf("`%s` decides", v.Rule)
}
