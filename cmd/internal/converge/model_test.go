package converge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/logging"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/fwmark"
	"wg-multihome/nft"
)

// history is what happens to a host: changes of its configuration, runs that
// come to their end or are killed, and what others do.
type history struct {
	t     fataler
	host  *simulated
	tally *tally
	trail []string

	epochs []epoch
	fresh  map[thing]bool // what others have touched: nobody's until a run came to its end
	placed placed
}

type fataler interface {
	Helper()
	Logf(string, ...any)
	Fatalf(string, ...any)
}

// placed says what the last run that came to its end has left, and others have
// not taken away since.
type placed struct{ rules, table bool }

// tally counts what was judged.
type tally struct{ histories, runs, kills, steps, packets int }

func newHistory(t fataler, counts *tally) *history {
	counts.histories++
	return &history{t: t, host: newSimulated(), tally: counts, epochs: []epoch{newEpoch(configuration{}, true)}, fresh: map[thing]bool{}}
}

// TestChangesOfConfiguration has the loop converge a simulated host through
// random histories of changes of the configuration, runs, kills, refused steps
// and what others do, and judges what leaves by which uplink before and after
// each single step. At last the host is as is configured.
func TestChangesOfConfiguration(t *testing.T) {
	var counts tally
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t, &counts)
		h.host.lacks = draw(t, 0, 9) == 0
		h.begin(t)
		for range draw(t, 2, 8) {
			h.meanwhile(t)
			switch draw(t, 0, 15) {
			case 0:
				h.down(h.anyFaults(t))
			case 1, 2, 3:
				h.call(anyOf(t, wans), h.anyFaults(t))
			default:
				h.run(draw(t, 0, 3) != 0, h.anyFaults(t))
			}
		}
		if _, valid := h.host.config.pins(); !valid {
			h.host.config = configuration{priority: 32752, marking: h.host.config.marking}
		}
		for uplink := range h.host.runs {
			h.endRun(uplink)
		}
		h.run(true, noFaults)
	})
	t.Logf("%+v", counts)
}

// begin has most hosts begin with a configuration of much.
func (h *history) begin(t *rapid.T) {
	h.host.config.marking = anyOf(t, []fwmark.Marking{fwmark.ByPacket, fwmark.BySocket, fwmark.BySocket})
	switch draw(t, 0, 3) {
	case 0:
		return
	case 1:
		h.host.config.uplinks["wan3"] = options{mark: fwmark.Mark{Value: 0x300, Mask: 0xf00}}
	}
	wide := fwmark.Mark{Value: 0x200, Mask: anyOf(t, masks)}
	h.host.config.uplinks["wan1"] = options{mark: fwmark.Mark{Value: 0x100, Mask: fwmark.FullMask}, devices: wireguards[:1], services: services[:1]}
	h.host.config.uplinks["wan2"] = options{mark: wide, devices: wireguards[1:], services: services[1:]}
	if h.host.lacks {
		h.host.config = h.host.config.withoutServices()
	}
	h.run(true, noFaults)
}

// meanwhile is what happens between two runs.
func (h *history) meanwhile(t *rapid.T) {
	for range draw(t, 0, 2) {
		next, what := h.host.config.change(t)
		if h.host.lacks {
			next = next.withoutServices()
		}
		h.host.config = next
		h.say("configured: %s: %s", what, next)
	}
	switch draw(t, 0, 19) {
	case 0:
		h.host.config = h.host.config.clone()
		h.host.config.typo = true
		h.say("configured: a typo")
	case 1:
		h.host.config = h.host.config.clone()
		h.host.config.priority = anyOf(t, []uint32{32752, 32754, 20000})
		h.say("configured: priority %d", h.host.config.priority)
	case 2, 3:
		h.refuse(t)
	}
	for range draw(t, 0, 1) {
		name := anyOf(t, hostEventNames)
		h.say("host: %s", name)
		hostEvents[name](h, t)
		h.judge(name)
		h.host.connect()
	}
}

// refuse has the mark of an uplink be one that cannot be read. Another uplink may get
// its last number meanwhile.
func (h *history) refuse(t *rapid.T) {
	uplink, other := anyOf(t, wans), anyOf(t, wans)
	o, there := h.host.config.uplinks[uplink]
	if !there {
		return
	}
	h.host.config = h.host.config.clone()
	h.host.config.set(uplink, func(o *options) { o.mark, o.refused = anyMark(t), true })
	if other != uplink && !o.refused && draw(t, 0, 3) > 0 {
		h.host.config.set(other, func(into *options) { into.mark = o.mark })
	}
	h.say("configured: a mark that cannot be read: %s", h.host.config)
}

func (h *history) anyFaults(t *rapid.T) faults {
	f := faults{kill: never, refuse: never, unread: map[string]bool{}}
	switch draw(t, 0, 7) {
	case 0, 1, 2, 3:
		f.kill = draw(t, 0, 30)
	case 4:
		f.refuse = draw(t, 0, 30)
		if draw(t, 0, 1) == 1 {
			f.part = []nft.Part{anyOf(t, nft.Parts[:])}
		}
	case 5:
		f.unread[anyOf(t, wireguards)] = true
	case 7:
		f.unread[unreadPrograms] = draw(t, 0, 2) == 0
	case 6:
		// Where the rules are flushed, too, nothing tells which mark of a device the
		// table holds: it gets the one that the rules hold from now on.
		f.unread[nft.Table] = draw(t, 0, 3) == 0 && h.placed.rules
		for name := range h.host.cgroups {
			if draw(t, 0, 1) == 1 {
				f.unread[name] = true
			}
		}
	}
	return f
}

// run is one run. Where nothing disturbs a person's run, it comes to its end.
func (h *history) run(person bool, f faults) {
	h.say("run: person %t, %+v", person, f)
	d, rep, ended := h.through(newEpoch(h.host.config, person), f, decide.Decide)
	if !ended {
		return
	}
	if len(d.Problems) == 0 {
		inForce := h.host.config.clone()
		h.host.inForce = &inForce
	} else if f.none() && len(rep.Errs) == 0 {
		h.knowListed()
	}
	_, valid := h.host.config.pins()
	if undisturbed := person && valid && f.none() && h.runsConfigured(); undisturbed && rep.Status() != report.Done {
		h.fatalf("an undisturbed run ends with %v", rep)
	}
	if rep.Status() != report.Done {
		h.say("ended: %v", rep)
		return
	}
	h.settle(d)
}

// through goes through the phases, with a configuration that counts from now on.
func (h *history) through(e epoch, f faults, decideOn decider) (d decide.Decision, rep report.Report, ended bool) {
	h.tally.runs++
	e.before = h.host.inForce
	h.epochs = append(h.epochs, e)
	h.host.whole = e.person
	h.host.faults, h.host.steps, h.host.refused, h.host.due = f, 0, "", map[string]bool{}
	h.host.before = h.host.connect
	h.host.refusesRule = func() bool {
		h.placed.rules = h.placed.rules && !h.placed.table
		return h.placed.table
	}
	h.host.after = func(what string) {
		h.tally.steps++
		h.say("  %s", what)
		h.judge(what)
	}
	h.host.lockRefused = func() {
		h.placed.table = false
	}
	if d, rep, ended = loop(h.newRun(e.person), decideOn); !ended {
		h.tally.kills++
		h.say("killed")
	}
	return d, rep, ended
}

// knowListed notes that a run which nothing disturbed has found an error: what is listed,
// or was in force last, is pinned from now on, or refused.
func (h *history) knowListed() {
	last := h.epochs[len(h.epochs)-1]
	for t := range h.fresh {
		_, unit := valueOf(t.name)
		if !unit && !last.valid && last.before != nil && last.owner(t) != "" {
			delete(h.fresh, t)
		}
	}
}

func (f faults) none() bool {
	return f.kill == never && f.refuse == never && f.text == "" && len(f.unread) == 0
}

func (h *history) newRun(person bool) *Run {
	return &Run{Host: h.host, Log: logging.Discard(), Person: person, MarkDue: func(devices ...string) {
		for _, d := range devices {
			h.host.due[d] = true
		}
	}}
}

// loop goes through the phases until nothing is left to do, or the run is killed.
func loop(r *Run, decideOn decider) (d decide.Decision, rep report.Report, ended bool) {
	defer func() {
		if err := recover(); err != nil {
			if _, is := err.(killed); !is {
				panic(err)
			}
		}
	}()
	d, rep = r.loop(context.Background(), decideOn)
	return d, rep, true
}

// settle notes that a run came to its end: its configuration alone counts from
// now on, and all is as that says.
func (h *history) settle(d decide.Decision) {
	h.say("done")
	h.dropRuns()
	last := newEpoch(h.host.config, true)
	h.epochs, h.fresh = []epoch{last}, map[thing]bool{}
	h.placed = placed{rules: true, table: !h.host.lacks}
	h.judge("done")
	h.judgeSources(d.Uplinks)
	h.host.faults = noFaults
	again, err := h.newRun(true).Look(context.Background())
	if plan := again.Plan(); err != nil || len(plan) > 0 {
		h.fatalf("%v; a second run would do\n%s", err, strings.Join(plan, "\n"))
	}
	for _, p := range last.pins {
		h.checkLed(p, d.Families(p.Uplink))
	}
}

// checkLed checks that what is pinned leaves by its uplink, where that has an
// address and a gateway.
func (h *history) checkLed(p fwmark.Pin, families [2]bool) {
	for _, name := range p.Devices {
		if mark, there := h.host.devices[name]; there && mark != p.Mark.Value && h.host.full[name] == 0 {
			h.fatalf("%s has mark %#x, and is pinned by %s", name, mark, p.Mark)
		}
	}
	for _, f := range fwmark.Families {
		want := ""
		if families[f] {
			want = p.Uplink
		}
		packet := h.host.first("")
		packet.Mark, packet.Dst = p.Mark.Value, world[f]
		if by := h.host.route(packet, p.Mark.Value); by != want || want != "" && !h.host.passes(packet, want) {
			h.fatalf("mark %s leads to %q in IPv%s, want %q; the lock: %t", p.Mark, by, f, want, h.host.passes(packet, want))
		}
		for _, name := range p.Cgroups {
			if _, there := h.host.cgroups[name]; !there {
				continue
			}
			packet := h.host.first(name)
			packet.Dst = world[f]
			marked := h.host.rules.Send("output", packet)
			if by := cmp.Or(packet.Mark, marked.CtMark); !p.Mark.Selects(by) || !marked.Dropped && !p.Mark.Selects(marked.Mark) {
				h.fatalf("%s gets mark %#x, and is pinned by %s", name, marked.Mark, p.Mark)
			}
		}
	}
}

func (h *history) fatalf(format string, args ...any) {
	h.t.Helper()
	h.t.Logf("%s", strings.Join(h.trail, "\n"))
	for _, f := range fwmark.Families {
		for _, rule := range h.host.kernel.Rules(f) {
			h.t.Logf("    %s", rule)
		}
	}
	for _, route := range h.host.kernel.Routes() {
		h.t.Logf("    %s", route)
	}
	h.t.Logf("%s", h.host.table)
	h.t.Logf("devices %v, cgroups %v, placed %+v", h.host.devices, h.host.cgroups, h.placed)
	h.t.Fatalf(format, args...)
}

func (h *history) say(format string, args ...any) {
	h.trail = append(h.trail, fmt.Sprintf(format, args...))
}

func (c configuration) withoutServices() configuration {
	c = c.byWay(fwmark.ByPacket)
	for _, name := range slices.Clone(wans) {
		if _, there := c.uplinks[name]; there {
			c.set(name, func(o *options) { o.services = nil })
		}
	}
	return c
}
