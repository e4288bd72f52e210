package converge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/host"
	"wg-multihome/cmd/internal/logging"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark/config"
)

// Host is the machine: *host.Host.
type Host interface {
	Observe(context.Context, *decide.Observation, decide.Parts) error
	Apply(context.Context, []decide.Step) decide.Outcome
}

// Run is one run: what it may do, and what it remembers, which ends with it.
type Run struct {
	Host  Host
	State state.Dir
	Log   *logging.Logger

	// Person says that a person asked for this run: only then go guards of
	// marks that are configured no longer.
	Person bool

	// MarkDue notes devices that are to be refreshed, before the step that
	// makes them so.
	MarkDue func(devices ...string)

	// InForce notes a configuration that was converged. whole says that nothing was
	// wrong with it, and nothing stands that it does not have; nil: nobody wants to know.
	InForce func(c config.Config, whole bool) error

	// Known notes what a run has found out, at its end; nil: it is not noted.
	Known func(decide.Decision)

	// Hold tells of steps that are left for later; nil: none is. Others may be at
	// work, or take again and again what a step puts.
	Hold func(decide.Decision, decide.Step) bool

	known decide.Observation // of an earlier run
	fresh decide.Parts       // its parts that need not be read again
	done  time.Time          // when the last run under the lock was done, by state.Dir.LastRun
	made  []string

	memory decide.Memory
	config config.Config // as it was read last
	lost   leases        // what a DHCP client has said and could not be written
	waited time.Duration // for WireGuard devices to answer
}

// decider is decide.Decide or the like.
type decider func(decide.Observation, decide.Memory) decide.Decision

// Converge brings the host to what the configuration, the leases and the kernel
// itself ask for. It waits up to wait for another run. What cannot be done
// leaves the rest to be done. It returns what was decided last.
func (r *Run) Converge(ctx context.Context, wait time.Duration) (last decide.Decision, rep report.Report) {
	rep = r.locked(ctx, wait, func(ctx context.Context) (rep report.Report) {
		last, rep = r.loop(ctx, decideAll)
		if r.Known != nil {
			r.Known(last)
		}
		if ctx.Err() == nil && r.InForce != nil && !rep.Is(host.ErrPrivilege) {
			if err := r.InForce(r.config, len(last.Problems) == 0); err != nil {
				rep.Errs = append(rep.Errs, err)
			}
		}
		return rep
	})
	return last, rep
}

// decideAll decides for the whole host: a configuration that was withdrawn leaves
// nothing of ours, and says why.
func decideAll(o decide.Observation, m decide.Memory) decide.Decision {
	if !o.Config.Withdrawn {
		return decide.Decide(o, m)
	}
	d := decide.Nothing(o, m)
	d.Problems = o.Config.Problems
	return d
}

// Call does what the original shell script's run-parts asks for: it keeps rules
// and routes.
func (r *Run) Call(ctx context.Context, c decide.Call, wait time.Duration) (last decide.Decision, rep report.Report) {
	rep = r.locked(ctx, wait, func(ctx context.Context) (rep report.Report) {
		last, rep = r.loop(ctx, func(o decide.Observation, m decide.Memory) decide.Decision { return decide.ForCall(o, m, c) })
		return rep
	})
	return last, rep
}

// Down removes all that is ours: marks of devices, rules, routes, the table.
// Records of leases stay, they are observations. An error in the configuration
// keeps nothing.
func (r *Run) Down(ctx context.Context, wait time.Duration) report.Report {
	return r.locked(ctx, wait, func(ctx context.Context) report.Report {
		_, rep := r.loop(ctx, decide.Nothing)
		rep.Problems = nil
		return rep
	})
}

// Left are the steps that Down would still make. An error means that the kernel could not be read.
func (r *Run) Left(ctx context.Context) ([]string, error) {
	o, err := r.observe(ctx)
	if err != nil {
		return nil, err
	}
	return decide.Nothing(o, r.remembered()).Plan(), nil
}

// Look observes the host and decides, and changes nothing. An error means that
// the kernel could not be read.
func (r *Run) Look(ctx context.Context) (decide.Decision, error) {
	o, err := r.observe(ctx)
	if err != nil {
		return decide.Decision{}, err
	}
	return decideAll(o, r.remembered()), nil
}

// Next has the next run begin with nothing remembered but what an earlier one has
// observed, and read anew all but the parts of it that are fresh: nothing can have
// changed them since. Where the configuration has changed, or another run has come in
// between, nothing is fresh.
func (r *Run) Next(known decide.Observation, fresh decide.Parts) {
	r.known, r.fresh, r.config = known, fresh, known.Config
	r.memory, r.lost = decide.Memory{}, nil
}

// Made are the lines of the steps that the last run has made.
func (r *Run) Made() []string { return r.made }

// Waited is how long this run was kept by WireGuard devices: what one that is
// silent takes is not there for a refresh.
func (r *Run) Waited() time.Duration { return r.waited }

// remembered is what the run remembers, and what it may do.
func (r *Run) remembered() decide.Memory {
	r.memory.Person = r.Person
	return r.memory
}

// observe observes the host anew. Of what was observed before, the configuration
// alone is handed on: its files are read again, and ifquery is not asked what it
// has said of them already.
func (r *Run) observe(ctx context.Context) (decide.Observation, error) {
	o := decide.Observation{Config: r.config}
	if r.fresh == 0 {
		err := r.again(ctx, &o, decide.Everything)
		return o, err
	}
	if err := r.again(ctx, &o, decide.Configuration); err != nil {
		return o, err
	}
	stale := decide.Everything &^ decide.Configuration
	if o.Config.Same(r.known.Config) {
		config := o.Config
		o, stale = r.known, stale&^r.fresh
		o.Config = config
	}
	err := r.again(ctx, &o, stale)
	return o, err
}

// again observes parts of the host anew.
func (r *Run) again(ctx context.Context, o *decide.Observation, parts decide.Parts) error {
	r.Log.Debugf("observe %s", parts)
	if err := r.Host.Observe(ctx, o, parts); err != nil {
		return err
	}
	if parts.Has(decide.Configuration) {
		r.config = o.Config
	}
	if parts.Has(decide.Leases) {
		o.Records = r.lost.over(o.Records)
	}
	if parts.Has(decide.WireGuard) {
		r.waited += o.Devices.Took
	}
	return nil
}

// loop goes through the phases until nothing is left to do.
func (r *Run) loop(ctx context.Context, decideOn decider) (decide.Decision, report.Report) {
	r.made = nil
	o, err := r.observe(ctx)
	if err != nil {
		return decide.Decision{}, report.Failed(err)
	}
	d := decideOn(o, r.remembered())
	failed := map[string]error{}
	for range decide.Rounds {
		made, err := r.round(ctx, &o, &d, decideOn, failed)
		if err != nil {
			return decide.Decision{}, report.Failed(err)
		}
		if !made { // so nothing is left, and no plan need be made of it
			return d, report.Report{Problems: d.Problems, Errs: d.Errs}
		}
	}
	return d, r.ended(d, failed)
}

// round goes through the phases once, and reports whether anything was tried.
func (r *Run) round(ctx context.Context, o *decide.Observation, d *decide.Decision, decideOn decider, failed map[string]error) (made bool, err error) {
	var done []decide.Step // since the last decision
	var stale decide.Parts
	catchUp := func(observe bool) error {
		if stale != 0 && observe {
			if err := r.again(ctx, o, stale); err != nil {
				return err
			}
			stale = 0
		} else if len(done) > 0 {
			*o = o.After(done)
		} else {
			return nil
		}
		done = nil
		*d = decideOn(*o, r.remembered())
		return nil
	}
	for _, phase := range decide.Phases {
		if err := catchUp(phase.Observed()); err != nil {
			return made, err
		}
		steps := r.now(*d, d.Steps(phase))
		if len(steps) == 0 {
			continue
		}
		made = true
		r.memory = r.memory.Recognised(*d)
		r.MarkDue(d.DueBy(steps)...)
		well, changed := r.make(ctx, steps, failed)
		r.memory = r.memory.After(well)
		done, stale = append(done, well...), stale|changed
	}
	return made, catchUp(true)
}

// now returns those of the steps that are not left for later.
func (r *Run) now(d decide.Decision, steps []decide.Step) []decide.Step {
	if r.Hold == nil {
		return steps
	}
	return slices.DeleteFunc(steps, func(s decide.Step) bool { return r.Hold(d, s) })
}

// quiet is from how many lines on a phase does not name each without -v.
const quiet = 64

// make makes steps and says so. It returns those of them that did not fail, and
// the parts of an observation that are to be read again: all of them where a
// step failed, as the host is not what it seemed to be.
func (r *Run) make(ctx context.Context, steps []decide.Step, failed map[string]error) (done []decide.Step, stale decide.Parts) {
	out := r.Host.Apply(ctx, steps)
	for line, err := range out.Failed {
		failed[line] = err
	}
	r.made = append(r.made, out.Made...)
	each := r.Log.Infof
	if len(out.Made) > quiet {
		r.Log.Infof("%d steps", len(out.Made))
		each = r.Log.Debugf
	}
	for _, line := range out.Made {
		each("%s", line)
	}
	for _, s := range steps {
		stale |= s.Changes()
		if out.Failing(s) {
			continue
		}
		done = append(done, s)
		for _, key := range decide.Keys(s) {
			delete(failed, key)
		}
	}
	if len(out.Failed) > 0 {
		stale = decide.Everything &^ decide.Configuration
	}
	return done, stale
}

// ended reports what still differs after the last round: each step with the
// error that it met, where it met one. A step that failed and is not wanted any
// more is no failure.
func (r *Run) ended(d decide.Decision, failed map[string]error) report.Report {
	rep := report.Report{Problems: d.Problems, Errs: d.Errs}
	if r.Hold != nil { // what is left for later is no failure
		for _, err := range failed {
			rep.Add(err)
		}
		return rep
	}
	for _, s := range d.Steps(decide.ForgetFresh) { // no lines of a plan
		if err := failed[decide.Keys(s)[0]]; err != nil {
			rep.Add(err)
		}
	}
	for _, line := range d.Plan() {
		err, met := failed[line]
		switch {
		case errors.Is(err, fs.ErrPermission):
			rep.Add(fmt.Errorf("%w (%w)", err, host.ErrPrivilege))
			return rep
		case met:
			rep.Add(err)
		default:
			rep.Add(fmt.Errorf("still to be done after %d rounds, as others undo it, or this is a defect: %s", decide.Rounds, line))
		}
	}
	return rep
}
