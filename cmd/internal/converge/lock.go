package converge

import (
	"context"
	"errors"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/host"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/cmd/internal/state"
)

// locked does work while no other run does. Where the lock cannot be made, the
// work is done all the same: a full STATE-DIR is no reason to leave packets
// unguarded.
func (r *Run) locked(ctx context.Context, wait time.Duration, work func(context.Context) report.Report) report.Report {
	if err := host.Privileged(); err != nil {
		return report.Failed(err)
	}
	r.waited = 0
	r.memory = decide.Memory{} // what others have done since the last run is not in it
	unlock, err := r.State.Lock(ctx, wait)
	switch {
	case errors.Is(err, state.ErrBusy), err != nil && ctx.Err() != nil:
		return report.Failed(err)
	case err != nil:
		rep := work(ctx)
		rep.Errs = append(rep.Errs, err)
		return rep
	}
	defer unlock()
	// What another run has just done may not have been heard of as yet: nothing is fresh then.
	if last := r.State.LastRun(); last.IsZero() || !last.Equal(r.done) {
		r.fresh = 0
	}
	defer func() {
		r.State.MarkRun() // a run that tells looks again for what this one leaves to it
		r.done = r.State.LastRun()
	}()
	return work(ctx)
}
