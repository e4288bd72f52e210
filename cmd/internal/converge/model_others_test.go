package converge

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"pgregory.net/rapid"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/policy"
)

// What is pinned beside devices and services: commands of `run`, units that
// systemd puts into the set of a mark, and full tunnels. And the runs that are no
// `sync`.

// Names of cgroups: the slice of a command of `run` has its uplink's name, a unit
// with NFTSet= the number of the mark that its set is named by.
const (
	runPrefix  = "wgmultihome.slice/run "
	unitPrefix = "unit "
)

func valueOf(name string) (value uint32, unit bool) {
	text, unit := strings.CutPrefix(name, unitPrefix)
	number, err := strconv.ParseUint(text, 0, 32)
	return uint32(number), unit && err == nil
}

// hasNumber returns what reports whether a unit's set is that of a pin.
func (e epoch) hasNumber(t thing) func(fwmark.Pin) bool {
	value, _ := valueOf(t.name)
	return func(p fwmark.Pin) bool { return p.Mark.Value == value && p.Uplink != "" }
}

// toggleRun has a command live on an uplink that has a mark, or ends it. It is
// nobody's until a run came to its end: before that it is not started.
func (h *history) toggleRun(t *rapid.T) {
	uplink := anyOf(t, wans)
	switch {
	case h.host.runs[uplink]:
		h.endRun(uplink)
	case !h.host.lacks && !h.host.config.uplinks[uplink].readable().IsZero():
		h.startRun(uplink)
	}
}

func (h *history) startRun(uplink string) {
	h.host.runs[uplink] = true
	h.host.makeCgroup(runPrefix + uplink)
	h.fresh[thing{kind: aService, name: runPrefix + uplink}] = true
}

func (h *history) endRun(uplink string) {
	delete(h.host.runs, uplink)
	delete(h.host.cgroups, runPrefix+uplink)
	h.host.dropSockets(runPrefix + uplink)
}

// dropRuns ends the commands and the units that are nobody's and get no mark any
// more: they were not started, or a person has taken their mark away.
func (h *history) dropRuns() {
	for name := range h.host.cgroups {
		t := thing{kind: aService, name: name}
		uplink, run := strings.CutPrefix(name, runPrefix)
		_, unit := valueOf(name)
		switch gone := h.host.carried(t) == 0 && h.ownersOf(t).nobodys; {
		case run && gone:
			h.endRun(uplink)
		case unit && gone:
			delete(h.host.cgroups, name)
		}
	}
}

// runsConfigured reports whether the uplinks of all commands have marks.
func (h *history) runsConfigured() bool {
	return !slices.ContainsFunc(slices.Collect(maps.Keys(h.host.runs)), func(uplink string) bool {
		return h.host.config.uplinks[uplink].readable().IsZero()
	})
}

// toggleUnit has systemd put a unit's cgroup into the set of a mark, or take it
// from there.
func (h *history) toggleUnit(t *rapid.T) { h.startUnit(anyOf(t, numbers)) }

func (h *history) startUnit(value uint32) {
	name := fmt.Sprintf("%s%#x", unitPrefix, value)
	set := h.host.have.Sets[nft.MarkSet(fwmark.Mark{Value: value, Mask: fwmark.FullMask})]
	if set.Type != nft.Cgroups {
		return
	}
	if id, there := h.host.cgroups[name]; there {
		delete(h.host.cgroups, name)
		set.Cgroups = slices.DeleteFunc(slices.Clone(set.Cgroups), func(o uint64) bool { return o == id })
	} else {
		h.host.makeCgroup(name)
		set.Cgroups = append(slices.Clone(set.Cgroups), h.host.lastID)
		h.fresh[thing{kind: aService, name: name}] = true
	}
	h.host.have.Sets = maps.Clone(h.host.have.Sets)
	h.host.have.Sets[set.Name] = set
	h.host.setTable(h.host.table)
}

// fullMarks are what wg-quick gives full tunnels: the first number that is free.
var fullMarks = []uint32{51820, 51821}

// toggleFull is `wg-quick up` of a full tunnel, or `wg-quick down`. Until the next
// run has come to its end its rules stand in front of ours: the table holds
// alone.
func (h *history) toggleFull(t *rapid.T) {
	name := anyOf(t, wireguards)
	if _, there := h.host.devices[name]; !there {
		return
	}
	h.fresh[thing{kind: aDevice, name: name}] = true
	if h.host.full[name] != 0 {
		h.quickDown(name)
		h.host.devices[name] = 0
		return
	}
	if !h.placed.table {
		return
	}
	h.placed.rules = false
	mark := fullMarks[0]
	for _, taken := range h.host.full {
		if taken == mark {
			mark = fullMarks[1]
		}
	}
	h.host.devices[name], h.host.full[name] = mark, mark
	for _, f := range fwmark.Families {
		h.host.kernel.ReplaceRoute(policy.Route{
			Family: f, Table: mark, Dst: netip.PrefixFrom(f.Unspecified(), 0), Type: policy.Unicast, Device: name, Protocol: 3, Metric: metricOf(f, 0),
		})
		for _, r := range quickRules(f, mark) {
			r.Priority = h.host.kernel.Rules(f)[1].Priority - 1
			h.host.kernel.AddRule(r)
		}
	}
}

func quickRules(f fwmark.Family, mark uint32) []policy.Rule {
	return []policy.Rule{
		{Family: f, Mark: fwmark.Mark{Value: mark, Mask: fwmark.FullMask}, Invert: true, Action: policy.Lookup, Table: mark},
		{Family: f, Action: policy.Lookup, Table: policy.TableMain, Suppresses: true},
	}
}

// quickDown takes away what wg-quick has made for a device. What it deletes of
// ours beside is left out.
func (h *history) quickDown(name string) {
	mark := h.host.full[name]
	if mark == 0 {
		return
	}
	delete(h.host.full, name)
	for _, r := range h.host.kernel.Routes() {
		if r.Table == mark {
			h.host.kernel.DeleteRoute(r)
		}
	}
	for _, f := range fwmark.Families {
		for _, quick := range quickRules(f, mark) {
			for _, r := range h.host.kernel.Rules(f) {
				if quick.Priority = r.Priority; r == quick {
					h.host.kernel.DeleteRule(r)
					break
				}
			}
		}
	}
}

// call is what the original shell script's hooks call for one uplink. Here it
// finds rules of ours, which it leaves alone.
func (h *history) call(uplink string, f faults) {
	c := decide.Call{Uplink: uplink, Mark: h.host.config.uplinks[uplink].readable(), Table: 1}
	h.say("call: %+v, %+v", c, f)
	_, rep, ended := h.through(newEpoch(h.host.config, false), f, func(o decide.Observation, m decide.Memory) decide.Decision {
		return decide.ForCall(o, m, c)
	})
	if ended {
		h.say("ended: %v", rep)
	}
}

// down takes all of ours away.
func (h *history) down(f faults) {
	h.say("down: %+v", f)
	e := newEpoch(configuration{priority: 32752}, true)
	e.down = true
	d, rep, ended := h.through(e, f, decide.Nothing)
	switch {
	case !ended:
	case rep.Status() != report.Done:
		h.say("ended: %v", rep)
		if f.none() {
			h.fatalf("an undisturbed down ends with %v", rep)
		}
	default:
		h.say("done")
		h.host.inForce = nil
		for uplink := range h.host.runs {
			h.endRun(uplink)
		}
		for name := range h.host.cgroups {
			if _, unit := valueOf(name); unit {
				delete(h.host.cgroups, name)
			}
		}
		h.epochs, h.fresh, h.placed = []epoch{e}, map[thing]bool{}, placed{}
		programs := 0
		for _, c := range h.host.programs {
			programs += len(c.Marks())
		}
		if len(d.Rules.Have.Rules)+len(d.Rules.Have.Routes)+programs > 0 || !h.host.table.Empty() {
			h.fatalf("%v, %v, %d programs and the table are left", d.Rules.Have.Rules, d.Rules.Have.Routes, programs)
		}
	}
}
