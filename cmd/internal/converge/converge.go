package converge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/wg"
)

// rounds bounds how often a run reads again and mends: others may be at work
// on the same rules.
const rounds = 5

// Run converges the kernel to what the configuration, the leases and the
// kernel itself ask for, and then tells the hooks what is new. It waits up to
// wait for another run. What cannot be done leaves the rest to be done.
func (h *Host) Run(ctx context.Context, wait time.Duration) Report {
	var last View
	report := h.Locked(ctx, wait, func(ctx context.Context) (report Report) {
		last, report = h.converge(ctx)
		return report
	})
	if err := errors.Join(report.Errs...); errors.Is(err, state.ErrBusy) || errors.Is(err, ErrPrivilege) {
		return report
	}
	for _, say := range last.contradictions() {
		h.Log.Infof("%s", say)
	}
	report.Errs = append(report.Errs, h.tell(ctx, last)...)
	return report
}

// Locked does work while no other run does. Where the lock cannot be made, the
// work is done all the same: a full STATE-DIR is no reason to leave packets
// unguarded.
func (h *Host) Locked(ctx context.Context, wait time.Duration, work func(context.Context) Report) Report {
	if err := Privileged(); err != nil {
		return Report{Errs: []error{err}}
	}
	h.waited = 0
	unlock, err := h.State.Lock(ctx, wait)
	switch {
	case errors.Is(err, state.ErrBusy), err != nil && ctx.Err() != nil:
		return Report{Errs: []error{err}}
	case err != nil:
		report := work(ctx)
		report.Errs = append(report.Errs, err)
		return report
	}
	defer unlock()
	return work(ctx)
}

// converge is the pipeline but for its last word: gather, want, open, the
// nftables table, mark, close, and read again until nothing is left to do. It
// returns what was read last.
func (h *Host) converge(ctx context.Context) (View, Report) {
	var failed failures
	for range rounds {
		now, err := h.Look(ctx)
		if err != nil {
			return View{}, Report{Errs: []error{err}}
		}
		h.forget(&now)
		failed = failures{}
		if steps := policy.Open(now.Wanted.Have, now.Wanted.State); len(steps) > 0 {
			h.note(now.dueBy(steps)...)
			h.apply(steps, &failed)
			if now, err = h.Look(ctx); err != nil {
				return View{}, Report{Errs: []error{err}}
			}
		}
		if now.settled() {
			return now, Report{Problems: now.Problems, Errs: now.Errs}
		}
		h.applyTable(ctx, now, now.unguarded(now.guarded), &failed)
		h.mark(ctx, now, &failed)
		held := h.release(ctx, now, &failed)
		h.close(now, held, &failed)
	}
	return h.leftOver(ctx, failed)
}

// leftOver reports what still differs after the last round: each step with the
// error that it met, where it met one. A step that failed and is not wanted
// any more is no failure.
func (h *Host) leftOver(ctx context.Context, failed failures) (View, Report) {
	now, err := h.Look(ctx)
	if err != nil {
		return View{}, Report{Errs: []error{err}}
	}
	report := Report{Problems: now.Problems, Errs: now.Errs}
	for _, step := range now.Plan() {
		err, met := failed[step]
		switch {
		case errors.Is(err, fs.ErrPermission):
			report.Errs = append(report.Errs, fmt.Errorf("%w (%w)", err, ErrPrivilege))
			return now, report
		case met:
			report.add(err)
		default:
			report.Errs = append(report.Errs, fmt.Errorf("still to be done after %d rounds: %s", rounds, step))
		}
	}
	return now, report
}

// failures are the errors of steps, by the step's text.
type failures map[string]error

// close takes away what is obsolete: pairs first, and the rest only when those
// are gone. One that is left may stand in front of a mark's new unreachable,
// and then the old one still holds.
func (h *Host) close(v View, held []fwmark.Mark, failed *failures) {
	steps := policy.Close(v.Wanted.Have, v.Wanted.State, held)
	pairs := 0
	for pairs < len(steps) && steps[pairs].Pair() {
		pairs++
	}
	if h.apply(steps[:pairs], failed) {
		h.apply(steps[pairs:], failed)
	}
}

// quiet is from how many steps on a run does not name each without -v.
const quiet = 64

// apply makes steps, and reports whether all of them succeeded.
func (h *Host) apply(steps []policy.Step, failed *failures) (all bool) {
	all = true
	each := h.Log.Infof
	if len(steps) > quiet {
		h.Log.Infof("%d steps", len(steps))
		each = h.Log.Debugf
	}
	for i, err := range h.kernel.Apply(steps) {
		if err != nil {
			(*failed)[steps[i].String()] = err
			all = false
		} else {
			each("%s", &steps[i])
		}
	}
	return all
}

// mark puts marks on the listed devices, where the guards stand in the kernel.
func (h *Host) mark(ctx context.Context, v View, failed *failures) {
	var guarded []fwmark.Pin
	for _, p := range v.Pins {
		if v.guarded(p.Mark) {
			guarded = append(guarded, p)
		}
	}
	h.change(ctx, wg.Want(v.Devices, guarded), failed)
}

// release takes marks that go off the devices that carry them, and returns
// those marks that could not be taken off: their guards are held.
func (h *Host) release(ctx context.Context, v View, failed *failures) (held []fwmark.Mark) {
	going := v.going()
	if len(going) == 0 {
		return nil
	}
	// Read after the devices got their marks; and what cannot be read may
	// carry any of them.
	before := len(v.Errs)
	h.readDevices(ctx, &v)
	if len(v.Errs) > before {
		return going
	}
	changes := wg.Release(v.Devices, going, v.tunnelMarks())
	h.change(ctx, changes, failed)
	for _, c := range changes {
		if (*failed)[c.String()] == nil {
			continue
		}
		for _, d := range v.Devices {
			for _, m := range going {
				if d.Name == c.Device && d.Mark&m.Mask == m.Value {
					held = append(held, m)
				}
			}
		}
	}
	return held
}

// change makes changes of devices, one of each, side by side: one that does not
// answer is waited for by no other.
func (h *Host) change(ctx context.Context, changes []wg.Change, failed *failures) {
	errs := make([]error, len(changes))
	var all sync.WaitGroup
	for i, c := range changes {
		client, err := h.devices()
		if err != nil {
			errs[i] = err
			continue
		}
		if c.Mark != 0 {
			h.note(c.Device)
		}
		all.Add(1)
		go func() {
			defer all.Done()
			errs[i] = client.Apply(ctx, c)
		}()
	}
	all.Wait()
	for i, c := range changes {
		if errs[i] != nil {
			(*failed)[c.String()] = errs[i]
		} else {
			h.Log.Infof("%s", c)
		}
	}
}
