package try

import (
	"context"
	"time"
)

// look is how often whoever waits looks whether there is still something to wait
// for, and what time it is: a suspended machine's timers stand still.
const look = 500 * time.Millisecond

// Wait waits until the time of a try is over, and reports whether it is pending
// still: it may be confirmed, undone, or another one have taken its place.
func (k Keeper) Wait(ctx context.Context, id string) (pending bool, err error) {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		s, err := k.Read()
		if err != nil {
			return false, err
		}
		if s == nil || s.ID != id || s.Undone {
			return false, nil
		}
		now, err := Clock()
		if err != nil {
			return false, err
		}
		if s.Over(now) {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-tick.C:
		}
	}
}
