package converge

import (
	"fmt"
	"slices"
	"strings"

	"wg-multihome/fwmark"
)

// Whose is a packet? What carries it (a device, a service, a number that
// somebody's socket has) belongs to the uplink that the configuration says. Which
// configuration: each that a run was begun with since the last run that came to
// its end without an error, and the one of that run. So what all of them give to U
// is U's all the time, and what moves from U to V may leave by U or by V until
// the next run comes to its end.
//
// While a configuration has an error, what it lists for an uplink is that one's, also
// where that one's mark cannot be read, and what it does not list is whose it was in
// the one that was in force last.
//
// What a person's valid configuration gives to nobody is nobody's, and may go
// anywhere. What is missing in a configuration with an error, or in one that a
// hook's run found, takes nothing away. It is treated as if that configuration
// said of it what those before did. But a device or a service that is then
// listed no longer keeps its mark, and goes where the configuration has that go.
//
// A connection belongs to the uplink that it has begun by, as long as its
// service is pinned.

// epoch is the configuration of one run.
type epoch struct {
	config configuration
	before *configuration // what was in force last, while config has an error
	pins   []fwmark.Pin
	valid  bool
	taking bool // what it does not have, it takes away
	person bool
	down   bool // nothing of ours is to stand
}

func newEpoch(c configuration, person bool) epoch {
	pins, valid := c.pins()
	return epoch{config: c.clone(), pins: pins, valid: valid, taking: valid && person, person: person}
}

// thing is what a packet is of.
type thing struct {
	kind kind
	name string // of a device or a service
	mark uint32 // of a number
}

type kind uint8

const (
	aDevice kind = iota
	aService
	aNumber
)

func (t thing) String() string {
	if t.kind == aNumber {
		return fmt.Sprintf("mark %#x", t.mark)
	}
	return t.name
}

// owner returns the uplink that a configuration gives a thing to, "" for none.
func (e epoch) owner(t thing) string {
	if uplink, run := strings.CutPrefix(t.name, runPrefix); run && !e.down {
		return uplink // whose it is while it lives, whatever is configured
	}
	if value, unit := valueOf(t.name); unit {
		t = thing{kind: aNumber, mark: value}
	}
	for _, p := range e.pins {
		if t.kind == aDevice && slices.Contains(p.Devices, t.name) || t.kind == aService && slices.Contains(p.Cgroups, t.name) ||
			t.kind == aNumber && p.Mark.Selects(t.mark) && p.Uplink != "" {
			return p.Uplink
		}
	}
	if t.kind == aNumber || e.valid {
		return ""
	}
	if uplink := e.config.listed(t); uplink != "" || e.before == nil {
		return uplink
	}
	return e.before.listed(t)
}

// owners are the uplinks that a thing may leave by.
type owners struct {
	uplinks []string
	nobodys bool // it may go anywhere
}

func (h *history) ownersOf(t thing) (o owners) {
	o.nobodys = h.fresh[t]
	for _, e := range h.epochs {
		uplink := e.owner(t)
		if _, unit := valueOf(t.name); unit && !slices.ContainsFunc(e.pins, e.hasNumber(t)) {
			uplink = "" // of sets that are named by it, there is none
		}
		if uplink == "" && !e.taking {
			uplink = e.owner(thing{kind: aNumber, mark: h.host.carried(t)})
		}
		switch {
		case uplink == "" && e.taking:
			o.nobodys = true
		case uplink != "" && !slices.Contains(o.uplinks, uplink):
			o.uplinks = append(o.uplinks, uplink)
		}
	}
	return o
}

// carried returns the mark that a device has, or that a service's connections
// get.
func (h *simulated) carried(t thing) uint32 {
	switch t.kind {
	case aDevice:
		return h.devices[t.name]
	case aService:
		if made := h.made(t.name); made != 0 {
			return made
		}
		return h.rules.Send("output", h.first(t.name)).CtMark
	}
	return 0
}

func (o owners) has(uplink string) bool { return o.nobodys || slices.Contains(o.uplinks, uplink) }
