package converge

import (
	"cmp"
	"testing"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
)

// stage is a configuration, and the run that finds it.
type stage struct {
	config  configuration
	event   func(*history) // what others do before the run
	faults  faults
	hook    bool
	call    string // the uplink that the original script's hook calls for
	noTable bool   // no nf_tables in this kernel
}

// given makes a configuration of what each of the uplinks has.
func given(of ...options) configuration {
	c := configuration{uplinks: map[string]options{}, priority: 32752}
	for i, o := range of {
		if !o.mark.IsZero() {
			c.uplinks[wans[i]] = o
		}
	}
	return c
}

// has makes options: a mark, and what is pinned by it.
func has(mark string, pinned ...string) (o options) {
	if mark == "" {
		return o
	}
	o.mark, _ = fwmark.Parse(mark) // a mistake shows, as the uplink has no mark
	for _, name := range pinned {
		if name[:2] == "wg" {
			o.devices = append(o.devices, name)
		} else {
			o.services = append(o.services, name)
		}
	}
	return o
}

// unreadable are faults: a device, a cgroup or the table cannot be read.
func unreadable(name string) faults {
	return faults{kill: never, refuse: never, unread: map[string]bool{name: true}}
}

func broken(c configuration) configuration {
	c.typo = true
	return c
}

// refused are options whose mark cannot be read.
func refused(o options) options {
	o.refused = true
	return o
}

// restart has a service begin anew.
func restart(name string) func(*history) {
	return func(h *history) {
		delete(h.host.cgroups, name)
		h.host.dropSockets(name)
		h.host.makeCgroup(name)
		h.fresh[thing{kind: aService, name: name}] = true
	}
}

// remake makes a device anew, without a mark.
func remake(name string) func(*history) {
	return func(h *history) {
		h.host.devices[name] = 0
		h.fresh[thing{kind: aDevice, name: name}] = true
	}
}

var (
	wentOn = stage{config: given(has("0x200", "wg0", "a.service"), refused(has("0x300", "wg1", "b.service"))), faults: noFaults}

	begun = stage{config: given(has("0x100", "wg0", "a.service"), has("0x200", "wg1", "b.service")), faults: noFaults}

	swapped = given(has("0x200", "wg0", "a.service"), has("0x100", "wg1", "b.service"))
)

// What leaked once, as small as it gets.
var leaked = map[string][]stage{
	"marks swapped, and an error elsewhere":                  {begun, {config: broken(swapped), faults: noFaults}},
	"marks swapped, and an error elsewhere, found by a hook": {begun, {config: broken(swapped), faults: noFaults, hook: true}},
	"marks rotated, and the one that comes is in doubt": {
		{config: given(has("0x100", "wg0"), has("0x200", "wg1", "b.service"), has("0x300/0xf00")), faults: noFaults},
		{config: broken(given(has("0x200", "wg0"), has("0x300", "wg1", "b.service"), has("0x100"))), faults: noFaults},
	},
	"marks rotated, and a device does not answer": {
		{config: given(has("0x100", "wg0"), has("0x200", "wg1"), has("0x300")), faults: noFaults, noTable: true},
		{config: given(has("0x200", "wg0"), has("0x300", "wg1"), has("0x100")), faults: faults{kill: never, refuse: never, unread: map[string]bool{"wg1": true}}},
	},
	"a device refuses its new mark": {
		begun,
		{config: given(has("0x100", "wg0", "a.service"), has("0x300", "wg1", "b.service")), faults: faults{kill: never, refuse: never, text: "= wg wg1 fwmark 0x300"}},
	},
	"a new mark's guard is refused": {
		begun,
		{config: given(has("0x201", "wg0", "a.service"), has("0x200", "wg1", "b.service")), faults: faults{kill: never, refuse: never, text: "+ rule 4 32754 fwmark 0x201 unreachable"}},
	},
	"marks swapped, and a guard is refused": {
		begun,
		{config: given(has("0x200", "wg0", "a.service"), has("0x100/0xff00", "b.service")), faults: faults{kill: never, refuse: never, text: "+ rule 4 32754 fwmark 0x100/0xff00 unreachable"}},
	},
	"marks swapped, and one gets a mask": {
		begun,
		{config: given(has("0x200/0xff00", "wg0", "a.service"), has("0x100", "wg1", "b.service")), faults: noFaults, event: func(h *history) { h.flushRules(nil) }},
	},
	"a number comes back elsewhere": {
		begun,
		{config: given(has("0x300", "wg0", "a.service"), has("0x200", "wg1", "b.service")), faults: noFaults},
		{config: given(has("0x300", "wg0", "a.service"), has("0x100", "wg1", "b.service")), faults: noFaults},
	},
	"a mark moves as the last service goes, and one comes": {
		{config: given(has("0x100", "a.service")), faults: noFaults},
		{config: given(has(""), has("0x100")), faults: noFaults},
		{config: given(has(""), has("0x100", "b.service")), faults: noFaults},
	},
	"an uplink comes that the lock has not seen, and the rules were flushed": {
		begun,
		{config: given(has(""), has("0x100", "wg1", "b.service"), has("0x300")), faults: noFaults, event: func(h *history) { h.flushRules(nil) }},
	},
	"a look-up of the uplink that a mark moved from is left": {
		begun,
		{config: broken(swapped), hook: true, faults: faults{kill: never, refuse: never, text: "- rule 6 32753 fwmark 0x100 lookup 4011147125"}, event: func(h *history) { h.host.kernel.LinkDown("wan2") }},
		{config: given(has(""), has("0x300/0xf00", "wg1", "b.service"), has("0x200")), faults: noFaults},
	},
	"a device gets a mark, and the lock refuses that": {
		begun,
		{config: given(has("0x300", "wg0", "a.service"), has("0x200", "wg1", "b.service")), faults: faults{kill: never, refuse: never, text: "lock_0x300"}},
	},
	"a mark moves, and gets a mask, and a device does not answer": {
		{config: given(has("0x100", "wg0"), has("0x200", "wg1")), faults: noFaults, noTable: true},
		{config: given(has("0x200", "wg0"), has("0x100", "wg1")), faults: faults{kill: 4, refuse: never}},
		{config: given(has("0x200", "wg0"), has("0x100/0xff00", "wg1")), faults: faults{kill: never, refuse: never, unread: map[string]bool{"wg0": true}}},
	},
	"the last services end, and a hook finds them unlisted while their connections run": {
		begun,
		{config: given(has("0x100", "wg0"), has("0x200", "wg1")), faults: faults{kill: 1, refuse: never}, hook: true, event: func(h *history) { clear(h.host.cgroups) }},
		{config: given(has("0x200", "wg0"), has("0x100", "wg1")), faults: noFaults},
	},
	"a mark moves halfway, the table is flushed, and a service comes": {
		begun,
		{config: given(has("0x100", "wg0", "a.service"), has(""), has("0x200")), faults: faults{kill: 4, refuse: never}},
		{config: given(has("0x100", "wg0"), has(""), has("0x200")), faults: faults{kill: 1, refuse: never}, event: func(h *history) { h.flushTable(nil) }},
		{config: given(has(""), has(""), has("0x200", "a.service")), faults: noFaults},
	},
	"marks swapped, and a service's cgroup cannot be read": {
		begun,
		{config: swapped, faults: unreadable("a.service")},
	},
	"marks swapped, and the table cannot be read": {begun, {config: swapped, faults: unreadable(nft.Table)}},
	"a mark goes, and the table cannot be read": {
		begun,
		{config: given(has("0x300", "wg0", "a.service"), has("0x200", "wg1", "b.service")), faults: unreadable(nft.Table)},
	},
	"a mark goes, and its service's cgroup cannot be read": {
		begun,
		{config: given(has("0x300", "wg0", "a.service"), has("0x200", "wg1", "b.service")), faults: unreadable("a.service")},
	},
	"a mark moves, and the guard of the one that a command of run is to get is refused": {
		{config: given(has("0x100"), has("0x200", "wg1")), faults: noFaults},
		{config: given(has("0x100"), has("0x200", "wg1")), faults: noFaults, event: func(h *history) { h.startRun("wan1") }},
		{config: given(has("0x300"), has("0x100", "wg1")), faults: faults{kill: never, refuse: never, text: "+ rule 4 32754 fwmark 0x300 unreachable"}},
	},
	"a mark goes, and the guard of the one that a command of run is to get is refused": {
		{config: given(has("0x100", "wg0"), has("0x200", "wg1")), faults: noFaults},
		{config: given(has("0x100", "wg0"), has("0x200", "wg1")), faults: noFaults, event: func(h *history) { h.startRun("wan1") }},
		{config: given(has("0x300", "wg0"), has("0x200", "wg1")), faults: faults{kill: never, refuse: never, text: "+ rule 4 32754 fwmark 0x300 unreachable"}},
	},
	"marks swapped, and a hook of the original script comes first": {
		{config: given(has("0x100", "wg0"), has("0x200", "wg1")), faults: noFaults, noTable: true},
		{config: given(has("0x200", "wg0"), has("0x100", "wg1")), faults: noFaults, call: "wan1"},
	},
	"marks swapped, with services, and a hook of the original script comes first": {begun, {config: swapped, faults: noFaults, call: "wan2"}},
	"the last service is listed no more, and systemd has put a unit into a mark's set": {
		begun,
		{config: begun.config, faults: noFaults, event: func(h *history) { h.startUnit(0x200) }},
		{config: given(has("0x100", "wg0"), has("0x200", "wg1")), faults: noFaults},
	},
	"a mark moves, and the cgroup of a command of run cannot be read": {
		{config: given(has("0x100"), has("0x200", "wg1"), has("0x300")), faults: noFaults},
		{config: given(has("0x100"), has("0x200", "wg1"), has("0x300")), faults: noFaults, event: func(h *history) { h.startRun("wan3") }},
		{config: given(has("0x300"), has("0x200", "wg1")), faults: unreadable(runPrefix + "wan3")},
	},
	"a number goes on while its uplink's own cannot be read, and its service begins anew":      {begun, wentOn.at(restart("b.service"))},
	"a number goes on while its uplink's own cannot be read, and its service begins anew then": {begun, wentOn, wentOn.at(restart("b.service")).byHook()},
	"a number goes on while its uplink's own cannot be read, and its tunnel is made anew":      {begun, wentOn.byHook(), wentOn.at(remake("wg1")).byHook()},
	"a number goes on while nothing can be read of its uplink":                                 {begun, {config: broken(given(has("0x200", "wg0", "a.service"))), faults: noFaults}},
	"a mark moves, and the table was flushed": {
		begun,
		{config: given(has(""), has("0x100", "wg1", "b.service"), has("0x200")), faults: noFaults, event: func(h *history) { h.flushTable(nil) }},
	},
}

// at has an event come before a stage's run.
func (s stage) at(event func(*history)) stage {
	s.event = event
	return s
}

// byHook has a hook's run find it.
func (s stage) byHook() stage {
	s.hook = true
	return s
}

// TestWhatLeakedOnce goes through changes that once led a packet by another
// uplink; each is followed by a person's run that nothing disturbs.
func TestWhatLeakedOnce(t *testing.T) {
	for name, stages := range leaked {
		for way, how := range map[string]fwmark.Marking{"packets": fwmark.ByPacket, "sockets": fwmark.BySocket} {
			t.Run(name+": "+way, func(t *testing.T) { goThrough(t, stages, how) })
		}
	}
}

func goThrough(t *testing.T, stages []stage, way fwmark.Marking) {
	h := newHistory(t, new(tally))
	h.host.lacks = stages[0].noTable
	for _, s := range stages {
		h.host.config = s.config.byWay(cmp.Or(s.config.marking, way))
		if s.event != nil {
			s.event(h)
		}
		if s.call != "" {
			h.call(s.call, s.faults)
			continue
		}
		h.run(!s.hook, s.faults)
	}
	h.host.config.mend()
	h.run(true, noFaults)
	if h.tally.packets == 0 {
		t.Error("no packet was judged")
	}
}
