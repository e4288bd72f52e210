package converge

import (
	"maps"
	"slices"
	"testing"

	"wg-multihome/fwmark"
)

// clone returns a history that goes on by itself.
func (h *history) clone() *history {
	c := *h
	c.host = h.host.clone()
	c.trail, c.epochs, c.fresh = slices.Clone(h.trail), slices.Clone(h.epochs), maps.Clone(h.fresh)
	return &c
}

func (h *simulated) clone() *simulated {
	c := *h
	c.kernel = h.kernel.Clone()
	c.devices, c.cgroups, c.leases, c.flows = maps.Clone(h.devices), maps.Clone(h.cgroups), maps.Clone(h.leases), maps.Clone(h.flows)
	c.programs, c.sockets, c.noted = maps.Clone(h.programs), maps.Clone(h.sockets), h.noted.Clone()
	c.runs, c.full = maps.Clone(h.runs), maps.Clone(h.full)
	c.config = h.config.clone()
	return &c
}

// killedChanges are from one configuration to another.
var killedChanges = map[string][2]configuration{
	"marks swapped": {
		given(has("0x100", "wg0", "a.service"), has("0x200", "wg1", "b.service")),
		given(has("0x200", "wg0", "a.service"), has("0x100", "wg1", "b.service")),
	},
	"marks rotated": {
		given(has("0x100", "wg0"), has("0x200", "wg1"), has("0x300", "b.service")),
		given(has("0x200", "wg0"), has("0x300", "wg1"), has("0x100", "b.service")),
	},
	"a mask changed": {
		given(has("0x100", "wg0"), has("0x200", "wg1", "b.service")),
		given(has("0x100", "wg0"), has("0x200/0xff00", "wg1", "b.service")),
	},
	"marks swapped under masks": {
		given(has("0x100/0xff00", "wg0"), has("0x200", "wg1", "b.service")),
		given(has("0x200/0xff00", "wg0"), has("0x100", "wg1", "b.service")),
	},
	"a number goes on, and its uplink's own cannot be read": {
		given(has("0x100", "wg0", "a.service"), has("0x200", "wg1", "b.service")),
		given(has("0x200", "wg0", "a.service"), refused(has("0x300", "wg1", "b.service"))),
	},
	"all moved to another uplink": {
		given(has("0x100", "wg0"), has("0x200", "wg1", "b.service")),
		given(has("0x200", "wg1", "b.service"), has(""), has("0x100", "wg0")),
	},
}

// killedChangesBothWays are these with services by packet and by socket, and from
// the one to the other.
func killedChangesBothWays() map[string][2]configuration {
	all := map[string][2]configuration{}
	for name, c := range killedChanges {
		all[name+": packets"] = [2]configuration{c[0].byWay(fwmark.ByPacket), c[1].byWay(fwmark.ByPacket)}
		all[name+": sockets"] = [2]configuration{c[0].byWay(fwmark.BySocket), c[1].byWay(fwmark.BySocket)}
		all[name+": packets to sockets"] = [2]configuration{c[0].byWay(fwmark.ByPacket), c[1].byWay(fwmark.BySocket)}
		all[name+": sockets to packets"] = [2]configuration{c[0].byWay(fwmark.BySocket), c[1].byWay(fwmark.ByPacket)}
	}
	return all
}

// TestKilledInEachChange kills a run of each change before each of its steps.
// From there goes on: the next run, with the same configuration, or with the one
// before; or one that is killed again, before the next run goes back.
func TestKilledInEachChange(t *testing.T) {
	var counts tally
	for name, change := range killedChangesBothWays() {
		t.Run(name, func(t *testing.T) {
			begun := newHistory(t, &counts)
			begun.host.config = change[0]
			begun.run(true, noFaults)
			begun.host.config = change[1]
			for kill := 0; ; kill++ {
				h := begun.clone()
				before := counts.kills
				h.run(true, faults{kill: kill, refuse: never})
				if counts.kills == before {
					break
				}
				for _, next := range change {
					on := h.clone()
					on.host.config = next
					on.run(true, noFaults)
				}
				h.run(true, faults{kill: kill % 7, refuse: never})
				h.host.config = change[0]
				h.run(true, noFaults)
			}
		})
	}
	t.Logf("%+v", counts)
}

// TestRefusedInEachChange has each step of each change be refused, in a run of its own,
// which a hook begins where there is an error elsewhere; nothing disturbs the next one.
func TestRefusedInEachChange(t *testing.T) {
	var counts tally
	for name, change := range killedChanges {
		for way, how := range map[string]fwmark.Marking{"packets": fwmark.ByPacket, "sockets": fwmark.BySocket} {
			change := [2]configuration{change[0].byWay(how), change[1].byWay(how)}
			t.Run(name+": "+way, func(t *testing.T) { refuseEach(t, change, &counts) })
		}
	}
	t.Logf("%+v", counts)
}

func refuseEach(t *testing.T, change [2]configuration, counts *tally) {
	begun := newHistory(t, counts)
	begun.host.config = change[0]
	begun.run(true, noFaults)
	for _, typo := range []bool{false, true} {
		begun.host.config = change[1].clone()
		begun.host.config.typo = typo
		for refuse := 0; ; refuse++ {
			h := begun.clone()
			h.run(!typo, faults{kill: never, refuse: refuse})
			if h.host.refused == "" {
				break
			}
			h.host.config = change[1]
			h.run(true, noFaults)
		}
	}
}
