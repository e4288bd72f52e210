package policy

import (
	"fmt"
	"net/netip"
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
// goes, and one to a neighbour of the uplink. Of each uplink and family it asks
// about so many addresses at most, 0: of all. The kernel goes through all rules for
// each answer.
func (w Wanted) Questions(f Facts, pins []fwmark.Pin, most int) []Question {
	ask := questions{wanted: w, facts: f, hosts: hostsOf(f.Addrs), worlds: map[deviceKey]netip.Addr{}, neighbours: map[neighbourKey]netip.Addr{}}
	for _, family := range fwmark.Families {
		if !f.Families[family] {
			continue
		}
		for _, p := range pins {
			q := Question{Packet: Packet{Mark: p.Mark.Value}, What: "mark " + p.Mark.String(), Uplink: p.Uplink}
			ask.both(q, family, netip.Addr{})
		}
		devices := w.deviceByTable(family)
		asked := map[string]int{}
		for i := range w.Rules {
			r := &w.Rules[i]
			device := devices[r.Table]
			if r.Family != family || !r.sourced() || !r.isLookup() || device == "" || most > 0 && asked[device] == most {
				continue
			}
			asked[device]++
			src := r.From.Addr()
			ask.both(Question{Packet: Packet{Src: src}, What: "source " + src.String(), Uplink: device}, family, src)
		}
	}
	return ask.list
}

// questions gathers questions, and remembers what many of them have in common.
type questions struct {
	wanted     Wanted
	facts      Facts
	hosts      map[netip.Addr]bool
	worlds     map[deviceKey]netip.Addr
	neighbours map[neighbourKey]netip.Addr
	list       []Question
}

// neighbourKey is an uplink, or one of its addresses, in a family.
type neighbourKey struct {
	deviceKey
	of netip.Addr
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

// both asks for a destination in the world, and for a neighbour: in the network
// of an address of the uplink, by choice of the given one.
func (a *questions) both(q Question, family fwmark.Family, of netip.Addr) {
	k := deviceKey{family, q.Uplink}
	if _, is := a.worlds[k]; !is {
		a.worlds[k] = a.wanted.world(k)
	}
	if world := a.worlds[k]; world.IsValid() {
		q.Dst, q.World = world, true
		a.list = append(a.list, q)
	}
	q.World = false
	if q.Dst = a.neighbour(neighbourKey{k, of}); q.Dst.IsValid() {
		a.list = append(a.list, q)
	}
}

// world returns an address that only a default leads to, or one that refuses.
func (w Wanted) world(k deviceKey) netip.Addr {
	for _, a := range worlds[k.family] {
		if o := w.Destinations.Of(k.device, a); o.Whose == TheRest || o.Whose == Mains && o.Route.isDefault() {
			return a
		}
	}
	return netip.Addr{}
}

// neighbour returns an address in the network of an uplink that is none of this
// host's; the zero Addr where there is no such network. Of addresses in one network
// it is one.
func (a *questions) neighbour(k neighbourKey) netip.Addr {
	for i := range a.facts.Addrs {
		p := a.facts.Addrs[i].Prefix
		if a.facts.Addrs[i].Device != k.device || fwmark.FamilyOf(p.Addr()) != k.family || k.of.IsValid() && p.Addr() != k.of ||
			p.Bits() > k.family.Bits()-2 || !a.facts.Addrs[i].Global {
			continue
		}
		network := neighbourKey{k.deviceKey, p.Masked().Addr()}
		if _, is := a.neighbours[network]; !is {
			a.neighbours[network] = freeIn(p, a.hosts)
		}
		if n := a.neighbours[network]; n.IsValid() {
			return n
		}
	}
	return netip.Addr{}
}

// freeIn returns the first address of a network that is none of the host's.
func freeIn(p netip.Prefix, hosts map[netip.Addr]bool) netip.Addr {
	for n := p.Masked().Addr().Next(); p.Contains(n.Next()); n = n.Next() {
		if !hosts[n] {
			return n
		}
	}
	return netip.Addr{}
}

// Leaves returns what a packet of an uplink is to leave by, "" where it is to be
// refused. known is false of what the kernel alone has: this host, multicast,
// broadcast, the link.
func (w Wanted) Leaves(uplink string, dst netip.Addr) (device string, known bool) {
	owner := w.Destinations.Of(uplink, dst)
	if owner.Whose == Mains && owner.Route.isDefault() { // an unreachable default: it is not meant for what is pinned
		return w.Destinations.rest[deviceKey{fwmark.FamilyOf(dst), uplink}].Device, true
	}
	return owner.Route.Device, owner.Whose != TheHosts
}

// Astray says in one line what is not as it is to be, "" where the kernel's answer
// is what is wanted: where the packet goes instead, and by which rule or route.
func (w Wanted) Astray(f Facts, q Question, a Answer) string {
	want, _ := w.Leaves(q.Uplink, q.Dst)
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
