package converge

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/policy"
	"wg-multihome/policy/sim"
)

// world are destinations that only a default leads to.
var world = [2]netip.Addr{netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("2a00::9")}

// sample is a packet that is to be judged, in all the ways in which it may be
// sent.
type sample struct {
	what    string
	packet  nft.Packet
	sources []netip.Addr // which its socket may be bound to; invalid: to none
	owners  owners

	// unpinned says that it may leave as without a mark.
	unpinned bool

	// masqueraded is the uplink that its connection is masqueraded for. The
	// kernel drops what comes to leave by another one, and forgets the connection
	// (nf_nat_oif_changed of net/netfilter/nf_nat_core.c).
	masqueraded string
}

// judge checks that no packet leaves by an uplink that is not its owner's. Both
// locks together must hold for all; and each of them alone, if others have not
// taken it away since a run last came to its end.
func (h *history) judge(when string) {
	h.judgeServers(when)
	for _, s := range h.samples() {
		if s.owners.nobodys {
			continue
		}
		for _, source := range s.sources {
			for _, f := range fwmark.Families {
				if !source.IsValid() || fwmark.FamilyOf(source) == f {
					s.packet.Src, s.packet.Dst = source, world[f]
					h.judgePacket(when, s)
				}
			}
		}
	}
}

func (h *history) judgePacket(when string, s sample) {
	h.tally.packets++
	marked := h.host.rules.Send("output", s.packet)
	device := h.host.route(s.packet, marked.Mark)
	if marked.Dropped || s.unpinned && device == h.host.route(s.packet, 0) {
		return
	}
	if marked.Mark == 0 && s.packet.Confirmed && !h.host.ownTable(s.packet.Src) {
		return // its mark has gone, and the source rule is best effort
	}
	if s.masqueraded != "" && device != s.masqueraded && h.host.translates() {
		return
	}
	if device != "" && !s.owners.has(device) {
		passes := h.host.passes(marked.Packet, device)
		if passes || h.placed.rules {
			h.fatalf("%s: %s with mark %#x from %v to %v is led to %s, which the lock lets through: %t; it is of %v", when, s.what, marked.Mark, s.packet.Src, s.packet.Dst, device, passes, s.owners.uplinks)
		}
	}
	if !h.placed.table || s.unpinned || s.packet.Confirmed && marked.Mark == 0 { // the table leaves it to the source rules
		return
	}
	for _, device := range wans {
		if h.host.hasDefault(device, fwmark.FamilyOf(s.packet.Dst)) && !s.owners.has(device) && h.host.passes(marked.Packet, device) {
			h.fatalf("%s: without rules %s with mark %#x from %v to %v would leave by %s; it is of %v", when, s.what, marked.Mark, s.packet.Src, s.packet.Dst, device, s.owners.uplinks)
		}
	}
}

// samples are the packets that are to be judged: of devices, of services' running
// connections and of new ones, and of sockets that somebody gave a number that
// is some mark's, or was.
func (h *history) samples() []sample {
	var list []sample
	everywhere := h.host.sources()
	for _, name := range slices.Sorted(maps.Keys(h.host.devices)) {
		o := h.ownersOf(thing{kind: aDevice, name: name})
		list = append(list, sample{what: "device " + name, packet: nft.Packet{Mark: h.host.devices[name]}, sources: everywhere, owners: o})
	}
	for _, value := range h.numbers() {
		t := thing{kind: aNumber, mark: value}
		list = append(list, sample{what: "a socket", packet: nft.Packet{Mark: value}, sources: everywhere, owners: h.ownersOf(t)})
	}
	for _, name := range slices.Sorted(maps.Keys(h.host.cgroups)) {
		o := h.ownersOf(thing{kind: aService, name: name})
		list = append(list, sample{what: "a new connection of " + name, packet: h.host.first(name), sources: everywhere, owners: o})
	}
	for _, c := range slices.SortedFunc(maps.Keys(h.host.flows), flow.compare) {
		o := h.ownersOf(thing{kind: aService, name: c.service})
		p := nft.Packet{TCP: true, CtMark: c.mark, Confirmed: true, Cgroups: map[int]uint64{1: h.host.cgroups[c.service]}}
		masqueraded := ""
		if c.masqueraded {
			masqueraded = c.uplink
		}
		list = append(list, sample{
			what: fmt.Sprintf("a connection of %s by %s (mark %#x, masqueraded %t)", c.service, c.uplink, c.mark, c.masqueraded), packet: p,
			sources: []netip.Addr{c.source}, owners: owners{uplinks: []string{c.uplink}}, unpinned: o.nobodys || c.flushed, masqueraded: masqueraded,
		})
	}
	return append(list, h.socketSamples()...)
}

func (c flow) compare(o flow) int {
	return cmp.Or(cmp.Compare(c.service, o.service), cmp.Compare(c.mark, o.mark), c.source.Compare(o.source), cmp.Compare(c.uplink, o.uplink),
		cmp.Compare(fmt.Sprint(c.masqueraded, c.flushed), fmt.Sprint(o.masqueraded, o.flushed)))
}

// numbers are what marks select of the configurations that count, with bits
// outside of their masks and without.
func (h *history) numbers() []uint32 {
	var values []uint32
	for _, e := range h.epochs {
		for _, p := range e.pins {
			values = append(values, p.Mark.Value, p.Mark.Value|0x10001&^p.Mark.Mask)
		}
	}
	slices.Sort(values)
	return slices.Compact(values)
}

// sources are those that sockets may be bound to: none, and each address.
func (h *simulated) sources() []netip.Addr {
	sources := []netip.Addr{{}}
	for _, a := range h.kernel.Addrs {
		sources = append(sources, a.Prefix.Addr())
	}
	return sources
}

// first is the first packet of a service's connection.
func (h *simulated) first(name string) nft.Packet {
	return nft.Packet{TCP: true, Mark: h.made(name), Cgroups: map[int]uint64{1: h.cgroups[name]}}
}

// route returns the uplink that a packet's default leads to, "" for none: it is
// looked up with the mark that the socket gives it and, where the table changes
// that, again.
func (h *simulated) route(p nft.Packet, mark uint32) string {
	route, errno := h.kernel.Walk(policy.Packet{Mark: p.Mark, Src: p.Src, Dst: p.Dst})
	if errno == sim.Done && mark != p.Mark {
		route, errno = h.kernel.Walk(policy.Packet{Mark: mark, Src: p.Src, Dst: p.Dst})
	}
	if errno != sim.Done || route.Dst.Bits() != 0 {
		return ""
	}
	return route.Device
}

// passes reports whether the table lets a packet leave by an uplink, whatever
// its source.
func (h *simulated) passes(p nft.Packet, uplink string) bool {
	p.Out, p.FromOut = uplink, true
	if slices.Contains(wireguards, uplink) {
		p.OutKind = "wireguard"
	}
	return !h.rules.Send("postrouting", p).Dropped
}

// translates reports whether a chain of ours has the kernel look at NAT.
func (h *simulated) translates() bool {
	return slices.ContainsFunc(h.table.Chains, func(c nft.Chain) bool { return c.Base.Type == "nat" })
}

// ownTable reports whether an address's own table has a default.
func (h *simulated) ownTable(a netip.Addr) bool {
	return slices.ContainsFunc(h.kernel.Routes(), func(r policy.Route) bool { return r.Table == policy.TableOf(a) && r.Dst.Bits() == 0 })
}

func (h *simulated) hasDefault(uplink string, f fwmark.Family) bool {
	return slices.ContainsFunc(h.kernel.Routes(), func(r policy.Route) bool {
		return r.Table == policy.TableMain && r.Family == f && r.Dst.Bits() == 0 && r.Device == uplink
	})
}

// connect has each service begin connections: from whatever source, all that
// come through.
func (h *simulated) connect() {
	h.makeSockets()
	for name := range h.cgroups {
		for _, source := range h.sources() {
			for _, f := range fwmark.Families {
				if source.IsValid() && fwmark.FamilyOf(source) != f {
					continue
				}
				h.connectFrom(name, source, world[f])
			}
		}
	}
}

func (h *simulated) connectFrom(name string, source, destination netip.Addr) {
	p := h.first(name)
	p.Src, p.Dst = source, destination
	if !source.IsValid() { // then the way of the first packet, without a mark, tells
		route, errno := h.kernel.Walk(policy.Packet{Dst: destination})
		if errno != sim.Done {
			return
		}
		i := slices.IndexFunc(h.kernel.Addrs, func(a policy.Address) bool {
			return a.Device == route.Device && fwmark.FamilyOf(a.Prefix.Addr()) == fwmark.FamilyOf(destination)
		})
		if i < 0 {
			return
		}
		p.Src = h.kernel.Addrs[i].Prefix.Addr()
	}
	marked := h.rules.Send("output", p)
	uplink := h.route(p, marked.Mark)
	if marked.Dropped || marked.CtMark == 0 || uplink == "" {
		return
	}
	marked.Out = uplink
	marked.FromOut = slices.ContainsFunc(h.kernel.Addrs, func(a policy.Address) bool { return a.Device == uplink && a.Prefix.Addr() == p.Src })
	if last := h.rules.Send("postrouting", marked.Packet); !last.Dropped || last.Masqueraded {
		h.flows[flow{name, marked.CtMark, p.Src, last.Masqueraded, uplink, false}] = true
	}
}
