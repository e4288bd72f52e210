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
// it goes along, before the number leads elsewhere. What listens gets no mark, so
// that what it accepts is answered by the uplink that it came by; a number that what
// was accepted has goes then, too. A mark that somebody else gave stays.
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
	from := make([]fwmark.Mark, len(r.Moves))
	for i, m := range r.Moves {
		from[i] = m.From
	}
	switch i := narrowest(from, mark); {
	case i < 0:
		return mark
	case use == Accepted:
		return changed(mark, from[i], fwmark.Mark{})
	default:
		return changed(mark, from[i], r.Moves[i].To)
	}
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
