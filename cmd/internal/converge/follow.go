package converge

import (
	"context"
	"time"

	"wg-multihome/wg"
)

// follow sets the endpoints of peers whose names have moved, as the answers
// come: a name that is never answered keeps no other one back. What the device
// is by then decides, it may have been configured since.
func (r *refresh) follow(ctx context.Context, t *tunnel, answers <-chan wg.Answer) {
	for a := range answers {
		came := map[string]wg.Answer{a.Name: a}
		for range len(answers) {
			more := <-answers
			came[more.Name] = more
		}
		moved, kept := t.Moved(came)
		for _, err := range kept {
			r.host.Log.Errorf("%s", err) // named, and never fatal
		}
		if len(moved) == 0 || !r.again(ctx, t) {
			continue
		}
		moved, _ = t.Moved(came)
		r.apply(ctx, t, moved)
	}
}

// again reads a device once more, and reports whether it is there.
func (r *refresh) again(ctx context.Context, t *tunnel) bool {
	details, errs := r.host.wg.Inspect(ctx, []string{t.name})
	if len(errs) > 0 {
		t.failed = true
		r.fail(errs...)
	}
	if len(details) == 0 {
		return false
	}
	t.Device, t.Now = details[0], time.Now()
	return true
}
