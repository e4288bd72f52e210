package wg

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"wg-multihome/fwmark"
)

// Device is a WireGuard device as found.
type Device struct {
	Name string
	Mark uint32 // 0: off
}

// Kind is what a change does.
type Kind uint8

// The kinds of change. The last two are about one peer.
const (
	SetMark    Kind = iota
	RotatePort      // listen port 0: the device chooses a new one
	Kick            // persistent keepalive 0 and back: a keepalive leaves at once
	SetEndpoint
)

// Change is one step: a device gets a mark, another port, or one of its peers
// is touched.
type Change struct {
	Device string
	Kind   Kind

	Mark      uint32 // of SetMark; 0: off
	Peer      Key    // of Kick and SetEndpoint
	Keepalive uint16 // of Kick: what the peer has, and keeps, in seconds; never 0
	Endpoint  netip.AddrPort
}

// String returns the step's one text form, in wg(8)'s words:
//
//	= wg wg0 fwmark 0x2005
//	= wg wg0 listen-port 0
//	= wg wg0 peer fMfz7dHl persistent-keepalive 0 25
//	= wg wg0 peer fMfz7dHl endpoint 203.0.113.1:51820
func (c Change) String() string {
	switch c.Kind {
	case RotatePort:
		return fmt.Sprintf("= wg %s listen-port 0", c.Device)
	case Kick:
		return fmt.Sprintf("= wg %s peer %s persistent-keepalive 0 %d", c.Device, c.Peer, c.Keepalive)
	case SetEndpoint:
		return fmt.Sprintf("= wg %s peer %s endpoint %s", c.Device, c.Peer, c.Endpoint)
	}
	if c.Mark == 0 {
		return fmt.Sprintf("= wg %s fwmark off", c.Device)
	}
	return fmt.Sprintf("= wg %s fwmark %#x", c.Device, c.Mark)
}

// Want returns the changes that give each listed device its pin's mark, in
// order of name. Devices are those that are there: a listed one that is not is
// no error. A device always gets the plain number, also of a mark under a
// mask; a pin that is Kept lists none but those that have it. What no pin lists
// keeps its mark.
func Want(devices []Device, pins []fwmark.Pin) []Change {
	wanted := map[string]uint32{}
	for _, p := range pins {
		for _, name := range p.Devices {
			wanted[name] = p.Mark.Value
		}
	}
	var changes []Change
	for _, d := range devices {
		if mark, listed := wanted[d.Name]; listed && d.Mark != mark {
			changes = append(changes, Change{Device: d.Name, Mark: mark})
		}
	}
	return sorted(changes)
}

// Release returns the changes that take marks off the devices that carry them,
// in order of name, because the guards of those marks are about to go.
//
// pins are those in force. A number that one of their marks selects stays on a
// device, whoever pins it: where a mark's mask alone changes, its successor has
// the number, and without it the tunnel would leave by main's default for a
// while. The guards of a mark that goes must stay until those of the one that
// selects its devices stand; that is the caller's to see to.
//
// except are marks that stay on what carries them: those that a foreign `not
// fwmark` rule names, as `wg-quick down` finds its rules by them.
//
// It goes by the marks of devices, so they are to be read after Want's changes
// were made.
func Release(devices []Device, going []fwmark.Mark, pins []fwmark.Pin, except []uint32) []Change {
	var changes []Change
	for _, d := range devices {
		goes := slices.ContainsFunc(going, func(m fwmark.Mark) bool { return m.Selects(d.Mark) })
		pinned := slices.ContainsFunc(pins, func(p fwmark.Pin) bool { return p.Mark.Selects(d.Mark) })
		if d.Mark != 0 && goes && !pinned && !slices.Contains(except, d.Mark) {
			changes = append(changes, Change{Device: d.Name})
		}
	}
	return sorted(changes)
}

func sorted(changes []Change) []Change {
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.Device, b.Device) })
	return changes
}
