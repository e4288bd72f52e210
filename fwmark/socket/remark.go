package socket

import (
	mathbits "math/bits"

	"wg-multihome/fwmark"
)

// Remark says which marks the sockets of a cgroup get that are there already: those
// of the processes in it and below it.
type Remark struct {
	Cgroup string   // "" is the mount's own, with all processes
	Except []string // cgroups below it that have programs of their own

	To    fwmark.Mark   // zero: none
	Was   []fwmark.Mark // marks of ours that sockets may have in place of it
	Moves []Move        // for all sockets

	// ByPacket says that nftables marks the packets of the cgroup, as it stands. Then a
	// connected socket without a mark gets one by its connection's: of Connections, From
	// is that of the connection, and To that of the socket. Where that is zero (the uplink
	// has no mark now, or the connection is about to be forgotten) it gets the To above.
	ByPacket    bool
	Connections []Move
}

// Move is a mark whose number is another one now, for the same uplink. To is zero
// where it has none any more, and the number is another uplink's.
type Move struct{ From, To fwmark.Mark }

// String is its text, as a step has it.
func (m Move) String() string {
	if m.To.IsZero() {
		return "- sockets " + m.From.String()
	}
	return "= sockets " + m.From.String() + " " + m.To.String()
}

// Remark has every socket of this host that there is go along.
func (m Move) Remark() Remark { return Remark{Moves: []Move{m}} }

// Use is what a socket is used for.
type Use uint8

// The uses.
const (
	Unconnected Use = iota // also bound: it may send to anyone
	Connected              // also about to be: its route and source are chosen
	Listening              // and what it accepts gets its mark
	Accepted               // of MPTCP: what it sends has no mark, it has its listener's number alone
)

// Next returns the mark that a socket gets that has one.
//
// What is connected keeps what it has: a connection that changed its uplink would
// keep its source. Only where its mark's number is another one for the same uplink
// it goes along, before the number leads elsewhere; one that has none may get that of
// its packets, see ByConnection. What listens gets no mark, so that what it accepts is
// answered by the uplink that it came by; a number that what was accepted has goes
// then, too. A mark that somebody else gave stays.
func (r Remark) Next(mark uint32, use Use) uint32 {
	was := narrowest(r.Was, mark)
	switch {
	case use == Unconnected && was >= 0:
		return changed(mark, r.Was[was], r.To)
	case use == Listening && was >= 0:
		return changed(mark, r.Was[was], fwmark.Mark{})
	case use == Unconnected && !r.To.IsZero() && mark&r.To.Mask == 0:
		return mark | r.To.Value
	}
	from := sources(r.Moves)
	switch i := narrowest(from, mark); {
	case i < 0:
		return mark
	case use == Accepted:
		return changed(mark, from[i], fwmark.Mark{})
	default:
		return changed(mark, from[i], r.Moves[i].To)
	}
}

// Connection is what conntrack has of a connected socket's connection.
type Connection struct {
	Known  bool
	Mark   uint32
	Served bool // where it is not known: the peer has begun it
}

// AsksConnection reports whether what is connected gets a mark by its Connection.
func (r Remark) AsksConnection(mark uint32) bool {
	return r.ByPacket && mark&r.To.Mask == 0
}

// ByConnection returns the mark that a connected socket gets of which AsksConnection is true.
//
// One whose packets were marked is pinned by what conntrack remembers, and by nothing
// once that is forgotten. So it gets the mark of its connection, which it leaves by
// now. What conntrack does not know would have begun anew with its next packet, and
// have been marked; but not what a server has accepted, which is answered by the uplink
// that it came by. What conntrack knows without a mark of ours is older than the pin.
func (r Remark) ByConnection(mark uint32, c Connection) uint32 {
	to := r.To
	if c.Served {
		to = fwmark.Mark{}
	}
	if c.Known {
		switch i := narrowest(sources(r.Connections), c.Mark); {
		case i < 0:
			return mark
		case !r.Connections[i].To.IsZero():
			to = r.Connections[i].To
		}
	}
	if mark&to.Mask != 0 {
		return mark
	}
	return mark | to.Value
}

// sources returns the marks that move.
func sources(moves []Move) []fwmark.Mark {
	from := make([]fwmark.Mark, len(moves))
	for i, m := range moves {
		from[i] = m.From
	}
	return from
}

// narrowest returns which of the marks that select a number has the most bits in its
// mask, -1 where none does. A number of theirs under a wider one would keep bits
// that are nobody's, and count as somebody else's from then on.
func narrowest(marks []fwmark.Mark, number uint32) int {
	found := -1
	for i, m := range marks {
		if m.Selects(number) && (found < 0 || mathbits.OnesCount32(m.Mask) > mathbits.OnesCount32(marks[found].Mask)) {
			found = i
		}
	}
	return found
}

// changed returns what a number with one mark becomes with another in its place.
func changed(number uint32, from, to fwmark.Mark) uint32 {
	return number&^(from.Mask|to.Mask) | to.Value
}
