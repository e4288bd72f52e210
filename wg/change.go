package wg

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"wg-multihome/fwmark"
)

// Device is a WireGuard device as found.
type Device struct {
	Name string
	Mark uint32 // 0: off
}

// Change is one step: a device gets a mark.
type Change struct {
	Device string
	Mark   uint32 // 0: off
}

// String returns the step's one text form, "= wg wg0 fwmark 0x2005", with
// "off" for 0 as in wg(8).
func (c Change) String() string {
	if c.Mark == 0 {
		return fmt.Sprintf("= wg %s fwmark off", c.Device)
	}
	return fmt.Sprintf("= wg %s fwmark %#x", c.Device, c.Mark)
}

// ParseChange reads what String writes, and nothing else.
func ParseChange(s string) (Change, error) {
	bad := fmt.Errorf("step %q is not of the form `= wg DEVICE fwmark MARK`", s)
	words := strings.Split(s, " ")
	if len(words) != 5 {
		return Change{}, bad
	}
	c := Change{Device: words[2]}
	if words[4] != "off" {
		mark, err := strconv.ParseUint(words[4], 0, 32)
		if err != nil {
			return Change{}, bad
		}
		c.Mark = uint32(mark)
	}
	if c.Device == "" || c.String() != s {
		return Change{}, bad
	}
	return c, nil
}

// Want returns the changes that give each listed device its pin's mark, in
// order of name. Devices are those that are there: a listed one that is not is
// no error. A device always gets the plain number, also of a mark under a
// mask; a pin that is Kept lists none. What no pin lists keeps its mark.
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
// in order of name, because the guards of those marks are about to go. except
// are marks that stay on what carries them: those that a foreign `not fwmark`
// rule names, as `wg-quick down` finds its rules by them.
//
// It goes by the marks of devices, so they are to be read after Want's changes
// were made.
func Release(devices []Device, going []fwmark.Mark, except []uint32) []Change {
	var changes []Change
	for _, d := range devices {
		carries := func(m fwmark.Mark) bool { return !m.IsZero() && d.Mark&m.Mask == m.Value }
		if d.Mark != 0 && !slices.Contains(except, d.Mark) && slices.ContainsFunc(going, carries) {
			changes = append(changes, Change{Device: d.Name})
		}
	}
	return sorted(changes)
}

func sorted(changes []Change) []Change {
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.Device, b.Device) })
	return changes
}
