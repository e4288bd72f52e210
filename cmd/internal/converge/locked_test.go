package converge

import (
	"context"
	"testing"
	"time"

	"wg-multihome/cmd/internal/report"
	"wg-multihome/cmd/internal/state"
)

// ending is a context that ends right after it was asked for the first time.
type ending struct {
	context.Context
	asked bool
}

func (e *ending) Err() error {
	if !e.asked {
		e.asked = true
		return nil
	}
	return context.Canceled
}

// TestEndedAsItGetsTheLock: the lock is there, so the work is done, and the lock
// is let go.
func TestEndedAsItGetsTheLock(t *testing.T) {
	r := Run{State: state.Dir(t.TempDir())}
	worked := false
	rep := r.locked(&ending{Context: context.Background()}, 0, func(context.Context) report.Report {
		worked = true
		return report.Report{}
	})
	if len(rep.Errs) > 0 || !worked {
		t.Errorf("worked %t, errors %v", worked, rep.Errs)
	}
	unlock, err := r.State.Lock(context.Background(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
