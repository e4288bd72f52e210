package fwmark

import "errors"

// Marking is how an uplink's services get their mark.
type Marking uint8

// The ways.
const (
	Unsaid    Marking = iota // as all uplinks, or DefaultMarking
	ByPacket                 // nftables marks their packets
	BySocket                 // programs on their cgroups mark their sockets
	Undecided                // what was said is refused: as it stands
)

// DefaultMarking is that of an uplink of which nothing is said.
const DefaultMarking = BySocket

// ParseMarking reads a way of marking as it stands in a configuration.
func ParseMarking(s string) (Marking, error) {
	switch s {
	case "packet":
		return ByPacket, nil
	case "socket":
		return BySocket, nil
	}
	return Undecided, errors.New(`is neither "socket" nor "packet"`)
}

// Or returns the first of both that was said, or DefaultMarking.
func (m Marking) Or(all Marking) Marking {
	switch {
	case m != Unsaid:
		return m
	case all != Unsaid:
		return all
	}
	return DefaultMarking
}
