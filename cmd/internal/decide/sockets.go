package decide

import (
	"maps"
	"slices"
	"strings"

	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/socket"
	"wg-multihome/nft"
)

// Sockets are the programs that mark the sockets of services.
type Sockets struct {
	Asked  bool          // the kernel was asked: some uplink's services are marked so, or were
	Have   socket.State  // what it said
	Noted  state.Sockets // what was noted when programs were attached
	Unread bool          // it could not be told what stands
	Whole  bool          // every cgroup was asked

	Elements map[uint64]string // cgroups that others have put into marks' sets: paths by id
}

// inUse reports whether sockets may have marks from us.
func (s Sockets) inUse() bool { return s.Asked || s.Unread || len(s.Noted.Marks) > 0 }

// unknown reports whether there may be programs that were not seen.
func (s Sockets) unknown() bool {
	return s.Unread || s.Have.Refused != nil && len(s.Noted.Cgroups) > 0
}

// SocketsKnown reports whether it is to be noted that every cgroup was asked: all that
// have programs are noted.
func (d Decision) SocketsKnown() bool {
	if !d.Sockets.Whole || d.Sockets.Noted.Whole {
		return false
	}
	for path, c := range d.Sockets.Have.Cgroups {
		if len(c.Marks()) > 0 && !slices.Contains(d.Sockets.Noted.Cgroups, path) {
			return false
		}
	}
	return true
}

// renumbered is a mark that sockets are to lose: its uplink has another one now, or
// none, and it is another uplink's.
type renumbered struct {
	socket.Move
	uplink string // that it was of
}

// findSockets decides which services are marked by socket.
func (d *Decision) findSockets() {
	if !d.Sockets.inUse() {
		return
	}
	owners := d.socketOwners()
	f := socket.Facts{
		Pins: d.Pins, Runs: map[fwmark.Mark][]string{}, Packets: map[fwmark.Mark]bool{}, Elements: map[string]fwmark.Mark{},
		Owners: owners, Refused: map[string]fwmark.Mark{}, Unguarded: map[fwmark.Mark]bool{},
		ByPacket: d.pathsByPacket(), Connections: d.connectionMarks(),
		Broken: len(d.Problems) > 0, Unseen: d.Cgroups.Unread, Have: d.Sockets.Have,
	}
	for _, p := range d.Pins {
		for _, run := range d.Cgroups.runsOf(p) {
			f.Runs[p.Mark] = append(f.Runs[p.Mark], d.Cgroups.Names[run.ID])
		}
		for _, id := range d.Table.Have.Sets[nft.MarkSet(p.Mark)].Cgroups {
			if path := d.Sockets.Elements[id]; path != "" {
				f.Elements[path] = p.Mark
			}
		}
		f.Packets[p.Mark] = d.marksPackets(p)
		f.Unguarded[p.Mark] = !d.carriable(p)
		if uplink := d.Refused(p); uplink != "" {
			f.Refused[uplink] = p.Mark
		}
	}
	d.marked = socket.Decide(f)
	for _, m := range d.marked.Moves {
		d.renumbered = append(d.renumbered, renumbered{m, owners[m.From]})
	}
	if d.scope != nothing {
		d.pinsAside()
		d.setAside()
	}
	d.marked.Moves = d.movable(d.marked.Moves)
}

// socketOwners tells whose the sockets with a mark are: as it was noted, or as it
// stands, until they have another one.
func (d Decision) socketOwners() map[fwmark.Mark]string {
	owners := map[fwmark.Mark]string{}
	for _, c := range d.stands {
		if !c.Full && !slices.Contains(d.tunnelMarks(), c.Mark.Value) && len(d.Sockets.Have.Carrying(c.Mark)) > 0 {
			owners[c.Mark] = c.Uplink
		}
	}
	for text, uplink := range d.Sockets.Noted.Marks {
		if m, err := fwmark.Parse(text); err == nil {
			owners[m] = uplink
		}
	}
	maps.DeleteFunc(owners, func(m fwmark.Mark, uplink string) bool { return uplink == "" || d.memory.Renumbered[m] })
	return owners
}

// marksPackets reports whether the configuration has the services of a pin marked
// by packet. Where it does not tell, they are marked as they stand.
func (d Decision) marksPackets(p fwmark.Pin) bool {
	for _, c := range d.Configs() {
		for _, in := range c.Intents {
			if is := in.Uplink == p.Uplink && in.Mark == p.Mark; !is && (in.Uplink == "" || in.Uplink != d.Refused(p)) {
				continue
			}
			if in.Cgroups != nil && len(in.Cgroups) == 0 { // for NFTSet=
				return true
			}
			switch c.MarkingOf(in) {
			case fwmark.ByPacket:
				return true
			case fwmark.BySocket:
				return false
			}
		}
	}
	return len(d.Sockets.Have.Carrying(p.Mark)) == 0
}

// socketMarks returns the marks that sockets of services have, or are to have.
func (d Decision) socketMarks() map[fwmark.Mark]bool {
	if !d.Sockets.Asked {
		return nil
	}
	marks := map[fwmark.Mark]bool{}
	for _, p := range d.Pins {
		if !p.Full && (!d.marksPackets(p) || len(d.Sockets.Have.Carrying(p.Mark)) > 0) {
			marks[p.Mark] = true
		}
	}
	return marks
}

// Service returns how a cgroup is marked. ok is false where every service's packets
// are, and of one that is not pinned.
func (d Decision) Service(cgroup string) (s socket.Service, ok bool) { return d.marked.Service(cgroup) }

// byPacket reports whether the table is to mark packets of a cgroup: also of one
// whose sockets are to be marked, while the table does and they are not.
func (d Decision) byPacket(path string, id uint64) bool {
	s, decided := d.Service(path)
	if !decided || s.Packet != nil {
		return true
	}
	return slices.Contains(d.Table.Have.Paths(), id) && !d.Sockets.Have.Cgroups[path].Complete(s.Mark)
}

// pathsByPacket returns the cgroups whose packets the table gives their mark, as it
// stands: those that we have put there, and those that others have (NFTSet=).
func (d Decision) pathsByPacket() map[string]bool {
	paths := map[string]bool{}
	if !d.Table.Have.MarksConnections() {
		return paths
	}
	marked := d.Table.Have.Paths()
	for path, c := range d.Cgroups.ByPath {
		if _, found := slices.BinarySearch(marked, c.ID); found {
			paths[path] = true
		}
	}
	for _, run := range d.Cgroups.Runs {
		if _, found := slices.BinarySearch(marked, run.Cgroup.ID); found {
			paths[d.Cgroups.Names[run.Cgroup.ID]] = true
		}
	}
	for _, path := range d.Sockets.Elements {
		paths[path] = true
	}
	return paths
}

// connectionMarks returns, for each mark that stands, the mark of the same uplink that
// the sockets of such connections get; zero where the uplink has none, or one whose
// guards do not stand.
func (d Decision) connectionMarks() []socket.Move {
	var list []socket.Move
	for _, c := range d.stands {
		if c.Full {
			continue
		}
		m := socket.Move{From: c.Mark}
		for _, p := range d.Pins {
			if c.Uplink != "" && p.Uplink == c.Uplink && !p.Full && !p.Kept && d.carriable(p) {
				m.To = p.Mark
			}
		}
		list = append(list, m)
	}
	return list
}

// packetPins returns pins without the services whose sockets are marked.
func (d Decision) packetPins(pins []fwmark.Pin) []fwmark.Pin {
	if len(d.marked.Services) == 0 {
		return pins
	}
	pins = slices.Clone(pins)
	for i := range pins {
		p := &pins[i]
		if len(p.Cgroups) == 0 {
			continue
		}
		p.Cgroups = slices.DeleteFunc(slices.Clone(p.Cgroups), func(path string) bool { return !d.byPacket(path, d.Cgroups.ByPath[path].ID) })
		if len(p.Cgroups) == 0 {
			p.Cgroups = nil // it takes no part for services
		}
	}
	return pins
}

// packetRuns returns the slices of `run` of a pin whose packets are marked.
func (d Decision) packetRuns(p fwmark.Pin) []nft.Cgroup {
	return slices.DeleteFunc(d.Cgroups.runsOf(p), func(c nft.Cgroup) bool { return !d.byPacket(d.Cgroups.Names[c.ID], c.ID) })
}

// socketsOfOthers reports whether sockets may have a pin's mark that are another
// uplink's, or get it.
func (d Decision) socketsOfOthers(p fwmark.Pin, wasOthers bool) bool {
	if wasOthers && d.Sockets.unknown() || d.takenBy(p.Mark, p.Uplink) {
		return true
	}
	for path, c := range d.Sockets.Have.Cgroups {
		s, pinned := d.Service(path)
		if slices.ContainsFunc(c.Marks(), p.Mark.Overlaps) && !(pinned && s.Uplink == p.Uplink) {
			return true
		}
	}
	return false
}

// heldBySockets reports whether sockets may have, or get, a mark that goes: its
// guards stay.
func (d Decision) heldBySockets(m fwmark.Mark) bool {
	renumbers := func(r renumbered) bool { return r.From == m }
	return d.Sockets.unknown() || len(d.Sockets.Have.Carrying(m)) > 0 || slices.ContainsFunc(d.renumbered, renumbers)
}

// runsSlice is above the slices of `run`, cgroup.RunsSlice.
const runsSlice = "wgmultihome.slice/"

// markedNoLonger returns the cgroups with programs that are configured no longer, and
// are no slices of `run`.
func (d Decision) markedNoLonger() []string {
	listed := map[string]bool{}
	for _, in := range d.Config.Intents {
		for _, path := range in.Cgroups {
			listed[path] = true
		}
	}
	for _, path := range d.Cgroups.Unlisted { // said already
		listed[path] = true
	}
	var list []string
	for path, c := range d.Sockets.Have.Cgroups {
		if len(c.Marks()) > 0 && !listed[path] && !strings.HasPrefix(path, runsSlice) {
			list = append(list, path)
		}
	}
	slices.Sort(list)
	return list
}
