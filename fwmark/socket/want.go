package socket

import (
	"maps"
	"slices"
	"strings"

	"wg-multihome/fwmark"
)

// Facts is what is decided from.
type Facts struct {
	Pins []fwmark.Pin             // every mark in force
	Runs map[fwmark.Mark][]string // slices of `run` that hold a cgroup, by mark

	// Packets are the marks whose services the configuration has marked by packet.
	Packets map[fwmark.Mark]bool

	// Elements are cgroups that others have put into a mark's set of nftables, to
	// be marked by packet.
	Elements map[string]fwmark.Mark

	// Owners are the uplinks that marks lead to as they stand, also of marks that
	// go, but for those of full tunnels.
	Owners map[fwmark.Mark]string

	// Refused are the marks, of guards alone, that uplinks without one of their own
	// have for what they pin, while the configuration has an error.
	Refused map[string]fwmark.Mark

	// Unguarded are the marks whose unreachable rules do not stand: nothing gets
	// such a mark that does not have it.
	Unguarded map[fwmark.Mark]bool

	// ByPacket are cgroups whose packets nftables gives their mark, as it stands, and
	// Connections what sockets get by a connection's mark (Remark).
	ByPacket    map[string]bool
	Connections []Move

	Broken bool // the configuration has an error: nothing that stands goes for being configured no longer
	Unseen bool // which cgroups are there could not be read: nothing that stands goes

	Have State
}

// Why says why a service is marked by packet.
type Why struct {
	Configured bool     // by `marking = "packet"`
	Refused    *Refusal // or because it cannot have programs
	Holds      string   // or because this cgroup is below it, of another mark and marked by packet: programs would mark its sockets first
}

// String says it in a few words.
func (w Why) String() string {
	switch {
	case w.Configured:
		return `marking = "packet"`
	case w.Refused != nil:
		return w.Refused.Error()
	}
	return w.Holds + " is below it, of another mark and marked by packet"
}

// Service is a cgroup that is pinned.
type Service struct {
	Cgroup string
	Mark   fwmark.Mark
	Uplink string
	Packet *Why // why it is marked by packet; nil: by socket
}

// Want is what is to be.
type Want struct {
	Services []Service // by cgroup, also those that are not there

	// Targets are the cgroups that are to have programs, and are there. One that has
	// some and is no target loses them, unless it is held.
	Targets map[string]fwmark.Mark

	// Moves are the marks whose number is another one now. Every socket with an old
	// number gets the new one before the old one leads elsewhere: those of Targets by
	// their steps; others, that are pinned no longer or in no cgroup of ours, only by
	// a look at all processes.
	Moves []Move

	ByPacket    map[string]bool // as Facts has them
	Connections []Move

	// Held are cgroups that are left as they stand: the guards of what they are to
	// have are missing, or nobody can say whose they are.
	Held map[string]bool
}

// Decide tells which cgroups are marked by socket, and which by packet.
func Decide(f Facts) Want {
	w := Want{
		Services: services(f), Targets: map[string]fwmark.Mark{}, Moves: moves(f), Held: map[string]bool{},
		ByPacket: f.ByPacket, Connections: f.Connections,
	}
	byPacket(f, w.Services)
	var unguarded []string
	for _, s := range w.Services {
		_, there := f.Have.Cgroups[s.Cgroup]
		switch {
		case !there:
		case f.Unguarded[s.Mark]:
			unguarded = append(unguarded, s.Cgroup)
		case s.Packet == nil:
			w.Targets[s.Cgroup] = s.Mark
		}
	}
	for _, cgroup := range unguarded {
		w.Hold(f.Have, cgroup)
	}
	if f.Broken || f.Unseen {
		hold(f, w)
	}
	return w
}

// Clone returns a copy that can be held in other places.
func (w Want) Clone() Want {
	w.Targets, w.Held = maps.Clone(w.Targets), maps.Clone(w.Held)
	return w
}

// Hold has a cgroup be left as it stands. Where it has no programs that mark its
// sockets, those of cgroups above it do. So what is above it for another uplink, and
// has no programs yet, waits as well. What has some gives its mark already: it goes on,
// since others may wait for that one.
func (w Want) Hold(have State, cgroup string) {
	w.Held[cgroup] = true
	delete(w.Targets, cgroup)
	if have.Cgroups[cgroup].gives() {
		return
	}
	for above := cgroup; above != ""; {
		above = Above(above)
		_, target := w.Targets[above]
		stands := len(have.Cgroups[above].Marks()) > 0
		switch {
		case target && !stands && !w.sameUplink(above, cgroup):
			w.Hold(have, above)
		case target, stands && w.Held[above]: // what is above that one marks nothing here
			return
		}
	}
}

// Service returns how a cgroup is pinned. ok is false of one that is not.
func (w Want) Service(cgroup string) (s Service, ok bool) {
	i, ok := slices.BinarySearchFunc(w.Services, cgroup, func(s Service, path string) int { return strings.Compare(s.Cgroup, path) })
	if !ok {
		return Service{}, false
	}
	return w.Services[i], true
}

// sameUplink reports whether two services are of one uplink.
func (w Want) sameUplink(a, b string) bool {
	s, _ := w.Service(a)
	t, _ := w.Service(b)
	return s.Mark == t.Mark || s.Uplink != "" && s.Uplink == t.Uplink
}

// services returns what is pinned, by cgroup. Of a cgroup that two marks claim,
// which the configuration refuses, the first keeps it.
func services(f Facts) []Service {
	var list []Service
	for _, p := range f.Pins {
		for _, cgroup := range slices.Concat(p.Cgroups, f.Runs[p.Mark]) {
			list = append(list, Service{Cgroup: cgroup, Mark: p.Mark, Uplink: p.Uplink})
		}
	}
	slices.SortStableFunc(list, func(a, b Service) int { return strings.Compare(a.Cgroup, b.Cgroup) })
	return slices.CompactFunc(list, func(a, b Service) bool { return a.Cgroup == b.Cgroup })
}

// byPacket finds the services that are marked by packet. A cgroup that holds one
// of another mark is, too, and so on upwards: so those further down come first.
func byPacket(f Facts, list []Service) {
	packets := map[string]fwmark.Mark{}
	maps.Copy(packets, f.Elements)
	for _, s := range list { // what is listed goes by what is decided here
		delete(packets, s.Cgroup)
	}
	order := make([]*Service, len(list))
	for i := range list {
		order[i] = &list[i]
	}
	slices.SortStableFunc(order, func(a, b *Service) int { return depth(b.Cgroup) - depth(a.Cgroup) })
	for _, s := range order {
		if s.Packet = whyPacket(f, *s, packets); s.Packet != nil {
			packets[s.Cgroup] = s.Mark
		}
	}
}

func whyPacket(f Facts, s Service, packets map[string]fwmark.Mark) *Why {
	if f.Packets[s.Mark] {
		return &Why{Configured: true}
	}
	_, there := f.Have.Cgroups[s.Cgroup]
	if refused := f.Have.Refusal(s.Cgroup); refused != nil && (there || f.Have.Refused != nil) {
		return &Why{Refused: refused}
	}
	for _, cgroup := range slices.Sorted(maps.Keys(packets)) {
		if cgroup != s.Cgroup && within(cgroup, s.Cgroup) && !sameUplink(f, packets[cgroup], s) {
			return &Why{Holds: cgroup}
		}
	}
	return nil
}

// sameUplink reports whether what carries a mark leaves by a service's uplink.
func sameUplink(f Facts, m fwmark.Mark, s Service) bool {
	return m == s.Mark || s.Uplink != "" && slices.ContainsFunc(f.Pins, func(p fwmark.Pin) bool { return p.Mark == m && p.Uplink == s.Uplink })
}

// moves finds the marks that lead to an uplink which has another one now, or one for
// what is refused, or that has none any more while another uplink's selects its packets.
func moves(f Facts) []Move {
	var list []Move
	for from, uplink := range f.Owners {
		stays := func(p fwmark.Pin) bool { return p.Uplink == uplink && p.Mark == from }
		has := func(p fwmark.Pin) bool { return p.Uplink == uplink && !p.Full && !p.Kept }
		taken := func(p fwmark.Pin) bool {
			return p.Uplink != "" && p.Uplink != uplink && !p.Kept && p.Mark.Overlaps(from)
		}
		if uplink == "" || slices.ContainsFunc(f.Pins, stays) {
			continue
		}
		if i := slices.IndexFunc(f.Pins, has); i >= 0 {
			list = append(list, Move{From: from, To: f.Pins[i].Mark})
		} else if to := f.Refused[uplink]; to != from && !to.IsZero() {
			list = append(list, Move{From: from, To: to})
		} else if slices.ContainsFunc(f.Pins, taken) {
			list = append(list, Move{From: from})
		}
	}
	slices.SortFunc(list, func(a, b Move) int { return a.From.Compare(b.From) })
	return list
}

// hold has the cgroups stay that have a mark in force and that nobody pins. Of those
// that could not be read nobody can say whose they are.
func hold(f Facts, w Want) {
	for cgroup, c := range f.Have.Cgroups {
		_, target := w.Targets[cgroup]
		inForce := slices.ContainsFunc(f.Pins, func(p fwmark.Pin) bool { return slices.Contains(c.Marks(), p.Mark) })
		listed := slices.ContainsFunc(w.Services, func(s Service) bool { return s.Cgroup == cgroup })
		if (inForce || f.Unseen) && len(c.Marks()) > 0 && !target && !listed {
			w.Held[cgroup] = true
		}
	}
}
