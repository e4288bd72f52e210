package policy_test

import (
	"slices"
	"strings"
	"syscall"

	"pgregory.net/rapid"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/policy/sim"
)

const (
	rounds = 5
	never  = -1 // of kills
)

// run is one run of the pipeline over a world. Unless it is quiet, all that is
// promised is checked after every single step.
type run struct {
	t     *rapid.T
	world *world
	held  map[fwmark.Mark]bool // marks that can't be taken off their devices
	kill  int                  // the run ends before the step of this number
	quiet bool                 // do not check: the same run was checked before

	steps       int
	view        view
	scriptRules []policy.Rule              // foreign ones that are to be taken over
	gone        []policy.Rule              // and those of them that were deleted
	leaks       map[policy.Packet]string   // what leaks now, and by which device
	unmarked    map[policy.Packet][]string // where packets without a mark went, step by step
	trail       []string
}

// converge is the pipeline: observe, open, marks on devices, marks off devices,
// close, until nothing is left to do. It reports whether the run came to its
// end.
func (r *run) converge() bool {
	foreign := r.foreign()
	for round := 0; ; round++ {
		r.observe()
		plan := policy.Diff(r.view.Have, r.view.State)
		// Marks that are held are a difference for as long as they are.
		if len(plan.Open)+len(policy.Close(r.view.Have, r.view.State, r.holding())) == 0 {
			break
		}
		if round == rounds {
			r.fatalf("after %d rounds there is still\n%s", rounds, textOf(plan))
		}
		r.checkPlan(plan)
		if !r.apply(plan.Open) {
			return false
		}
		r.observe()
		r.checkPinned("after Open")
		if !r.markDevices() {
			return false
		}
		if !r.releaseDevices() || !r.apply(policy.Close(r.view.Have, r.view.State, r.holding())) {
			return false
		}
	}
	r.checkPinned("at the end")
	r.checkForeign(foreign)
	r.checkUnmarked()
	r.checkPairs()
	return true
}

// observe reads the host anew. What is promised to a packet may be another thing
// from here on, so it is judged anew what leaks before the next step.
func (r *run) observe() {
	r.view = r.world.observe(r.scriptRules)
	for _, rule := range r.view.Have.Rules {
		if !rule.Ours() && !slices.Contains(r.scriptRules, rule) {
			r.scriptRules = append(r.scriptRules, rule)
		}
	}
	if r.quiet {
		return
	}
	r.checkShared()
	if r.unmarked == nil {
		r.unmarked = map[policy.Packet][]string{}
		for _, f := range fwmark.Families {
			r.followUnmarked(f)
		}
	}
	r.judge()
}

// judge notes what leaks now.
func (r *run) judge() {
	if r.quiet {
		return
	}
	r.leaks = map[policy.Packet]string{}
	for _, f := range fwmark.Families {
		r.addLeaks(f, r.leaks)
	}
}

// alive counts a step, and reports whether the run lives to make it.
func (r *run) alive(text string) bool {
	if r.steps == r.kill {
		return false
	}
	r.steps++
	r.trail = append(r.trail, text)
	return true
}

// markDevices lets devices carry the marks of all pins.
func (r *run) markDevices() bool {
	if !r.alive("= marks on devices") {
		return false
	}
	for _, p := range r.view.pins {
		r.world.carried[p.Mark] = p.Uplink
	}
	r.judge()
	return true
}

// holding returns the marks that go, and can't be taken off their devices.
// Those whose guards others have deleted are beyond help.
func (r *run) holding() (marks []fwmark.Mark) {
	for _, c := range policy.Standing(r.view.facts) {
		_, carried := r.world.carried[c.Mark]
		pinned := slices.ContainsFunc(r.view.pins, func(p fwmark.Pin) bool { return p.Mark == c.Mark })
		if carried && !pinned && r.held[c.Mark] {
			marks = append(marks, c.Mark)
		}
	}
	return marks
}

// releaseDevices takes the marks that go off their devices, but for those that
// are held.
func (r *run) releaseDevices() bool {
	if !r.alive("= marks off devices") {
		return false
	}
	holding := r.holding()
	for m := range r.world.carried {
		if !slices.Contains(holding, m) && !slices.ContainsFunc(r.view.pins, func(p fwmark.Pin) bool { return p.Mark == m }) {
			delete(r.world.carried, m)
		}
	}
	r.judge()
	return true
}

// apply makes steps, until the run is killed.
func (r *run) apply(steps []policy.Step) bool {
	for _, s := range steps {
		if !r.alive(s.String()) {
			return false
		}
		r.do(s)
		r.checkStep(s)
	}
	return true
}

// do makes a step. The kernel must take it, and what it deletes must be what
// was meant, or its twin of another protocol.
func (r *run) do(s policy.Step) {
	if s.IsRoute || s.Op != policy.Delete {
		switch errno := r.world.kernel.Do(s); errno {
		case sim.Done, syscall.EEXIST, syscall.ESRCH:
		default:
			r.fatalf("%s: %v", s, errno)
		}
		return
	}
	if !s.Rule.Ours() && !slices.Contains(r.scriptRules, s.Rule) {
		r.fatalf("%s: is foreign", s)
	}
	gone, errno := r.world.kernel.DeleteRule(s.Rule)
	if errno != sim.Done {
		return
	}
	twin := gone
	twin.Protocol = s.Rule.Protocol
	if !s.Rule.SuppressesGroup { // a wildcard
		twin.SuppressesGroup, twin.SuppressGroup = false, 0
	}
	if twin != s.Rule || !gone.Ours() && !slices.Contains(r.scriptRules, gone) {
		r.fatalf("%s: deletes %s proto %d", s, gone, gone.Protocol)
	}
	if !gone.Ours() {
		r.gone = append(r.gone, gone)
	}
}

// foreign returns the rules that are not ours.
func (r *run) foreign() []policy.Rule {
	var rules []policy.Rule
	for _, f := range fwmark.Families {
		rules = append(rules, slices.DeleteFunc(r.world.kernel.Rules(f), policy.Rule.Ours)...)
	}
	return rules
}

func (r *run) fatalf(format string, args ...any) {
	r.t.Helper()
	for _, f := range fwmark.Families {
		for _, rule := range r.world.kernel.Rules(f) {
			r.t.Logf("    %s proto %d", rule, rule.Protocol)
		}
	}
	for _, route := range r.world.kernel.Routes() {
		r.t.Logf("    %s proto %d", route, route.Protocol)
	}
	r.t.Logf("    %+v, carried %v, pins %+v", r.world.kernel.Addrs, r.world.carried, r.view.pins)
	r.t.Logf("steps so far:\n%s", strings.Join(r.trail, "\n"))
	r.t.Fatalf(format, args...)
}

// textOf returns a plan's steps, a line each.
func textOf(p policy.Plan) string {
	var lines []string
	for _, s := range slices.Concat(p.Open, p.Close) {
		lines = append(lines, s.String())
	}
	return strings.Join(lines, "\n")
}
