package socket

import (
	"slices"

	"wg-multihome/fwmark"
)

// Remark says which marks the sockets of a cgroup get that are there already: those
// of the processes in it and below it.
type Remark struct {
	Cgroup string
	Except []string // cgroups below it that have programs of their own

	To    fwmark.Mark   // zero: none
	Was   []fwmark.Mark // marks of ours that sockets may have in place of it
	Moved []fwmark.Mark // of Was: those that were another number for the same uplink
}

// Use is what a socket is used for.
type Use uint8

// The uses.
const (
	Unconnected Use = iota // also bound: it may send to anyone
	Connected              // also about to be: its route and source are chosen
	Listening              // and what it accepts gets its mark
)

// Next returns the mark that a socket gets that has one.
//
// What is connected keeps what it has: a connection that changed its uplink would
// keep its source. Only where its mark's number is another one for the same uplink
// it goes along, before the number leads elsewhere. What listens gets no mark, so
// that what it accepts is answered by the uplink that it came by. A mark that
// somebody else gave stays.
func (r Remark) Next(mark uint32, use Use) uint32 {
	if i := slices.IndexFunc(r.Was, func(m fwmark.Mark) bool { return m.Selects(mark) }); i >= 0 {
		was := r.Was[i]
		rest := mark &^ (was.Mask | r.To.Mask)
		switch {
		case !r.To.IsZero() && slices.Contains(r.Moved, was):
			return rest | r.To.Value
		case use == Connected:
			return mark
		case use == Listening:
			return mark &^ was.Mask
		}
		return rest | r.To.Value
	}
	if use == Unconnected && !r.To.IsZero() && mark&r.To.Mask == 0 {
		return mark | r.To.Value
	}
	return mark
}
