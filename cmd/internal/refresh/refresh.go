package refresh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/host"
	"wg-multihome/cmd/internal/logging"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/spelling"
	"wg-multihome/policy"
	"wg-multihome/wg"
)

// A refresh takes total at most, of however many devices and with the time that
// devices were waited for before it: a DHCP client waits for its hook. It gets
// least in any case, so that much of it is not spent on waiting for other runs;
// and names are not waited for in the last of it, which is there to set
// endpoints.
const (
	total = 5 * time.Second
	least = 2 * time.Second
	last  = time.Second
)

// Refresher refreshes tunnels.
type Refresher struct {
	Host  *host.Host
	State state.Dir
	Log   *logging.Logger
	Due   *Due
	Look  func(context.Context) (decide.Decision, error)
}

// Named refreshes the named devices, or all that are pinned, now. With
// olderThan it is only about peers whose last handshake is older.
func (r *Refresher) Named(ctx context.Context, names []string, olderThan time.Duration) report.Report {
	if err := host.Privileged(); err != nil {
		return report.Failed(err)
	}
	x := r.Begin(ctx, 0)
	x.olderThan = olderThan
	if x.unobserved {
		return report.Report{Errs: x.end()}
	}
	d := x.Decision
	rep := report.Report{Problems: d.Problems, Errs: d.Errs}
	pinned := d.PinnedDevices()
	for _, name := range names {
		if !slices.Contains(pinned, name) {
			rep.Problems = append(slices.Clip(rep.Problems), fwmark.Problem{Text: fmt.Sprintf("no uplink lists WireGuard device %q%s: see `wg-multihome help tunnels`", name, spelling.Instead(name, pinned))})
		} else if len(d.Reachable([]string{name})) == 0 {
			rep.Errs = append(rep.Errs, fmt.Errorf("WireGuard device %q is not there; `wg show interfaces` lists those that are", name))
		}
	}
	if len(names) > 0 {
		pinned = slices.DeleteFunc(pinned, func(device string) bool { return !slices.Contains(names, device) })
	}
	rep.Errs = append(rep.Errs, x.Run(ctx, pinned, false)...)
	return rep
}

// Silent refreshes those of the named devices that are pinned, as far as peers of
// theirs have had no handshake for olderThan. Their endpoints' names are looked up
// only with names.
func (r *Refresher) Silent(ctx context.Context, devices []string, olderThan time.Duration, names bool) []error {
	x := r.Begin(ctx, 0)
	x.olderThan, x.nameless = olderThan, !names
	pinned := x.Decision.PinnedDevices()
	return x.Run(ctx, slices.DeleteFunc(slices.Clone(devices), func(device string) bool { return !slices.Contains(pinned, device) }), false)
}

// Refresh is a refresh of several devices, side by side.
type Refresh struct {
	Decision decide.Decision // by what was observed as it began

	refresher  *Refresher
	ends       time.Time
	unlock     func() // nil: another run holds the lock
	unobserved bool
	olderThan  time.Duration
	nameless   bool // endpoints' names are not looked up

	mu   sync.Mutex
	errs []error
}

// Begin looks at the host while no other run converges, and until Run has set
// the marks: between the look and the marks another run might take a mark away,
// and the guards; and by an older look a device that has come since would seem
// gone, and lose its note. spent is the time that devices have taken already.
// Where another run holds the lock, nothing will be refreshed. Run ends it.
func (r *Refresher) Begin(ctx context.Context, spent time.Duration) *Refresh {
	x := &Refresh{refresher: r, ends: time.Now().Add(max(total-spent, least))}
	unlock, err := r.State.Lock(ctx, time.Until(x.ends)-least)
	switch {
	case errors.Is(err, state.ErrBusy), err != nil && ctx.Err() != nil:
		x.fail(fmt.Errorf("refresh tunnels: %w", err))
	case err != nil:
		x.fail(err) // a full STATE-DIR is no reason to leave tunnels broken
		x.unlock = func() {}
	default:
		x.unlock = unlock
	}
	if x.Decision, err = r.Look(ctx); err != nil {
		x.fail(err)
		x.unobserved = true
	}
	return x
}

func (x *Refresh) fail(errs ...error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.errs = append(x.errs, errs...)
}

// end lets go of the lock, and returns what went wrong.
func (x *Refresh) end() []error {
	if x.unlock != nil {
		x.unlock()
	}
	return x.errs
}

// Run refreshes devices, and with due also those that are noted: all that needs
// no name at once, and then by names. No device waits for another one.
func (x *Refresh) Run(ctx context.Context, devices []string, due bool) []error {
	notes, err := x.refresher.Due.Devices() // under the lock: the steps that they were made for are done
	if err != nil {
		x.fail(err)
	}
	if x.unlock == nil { // the run that holds it may leave them to this one: they are tried again
		return x.end()
	}
	if x.unobserved {
		x.refresher.Due.failed(notes)
		return x.end()
	}
	if due {
		devices = append(slices.Clone(devices), slices.Sorted(maps.Keys(notes))...)
	}
	if len(devices) == 0 {
		return x.end() // notes of others are none of this refresh's business
	}
	ctx, cancel := context.WithDeadline(ctx, x.ends)
	defer cancel()
	tunnels := x.tunnels(ctx, x.Decision.Reachable(devices))
	var marked, all sync.WaitGroup
	for _, t := range tunnels {
		marked.Add(1)
		all.Add(1)
		go func() {
			defer all.Done()
			changes := t.AtOnce()
			x.apply(ctx, t, marks(changes))
			marked.Done()
			x.apply(ctx, t, afterMark(changes))
			if x.nameless {
				return
			}
			asking, cancel := context.WithDeadline(ctx, x.ends.Add(-last))
			defer cancel()
			x.follow(ctx, t, wg.LookUp(asking, t.Names(), t.Families))
		}()
	}
	marked.Wait()
	x.unlock()
	all.Wait()
	x.clear(tunnels, notes, due)
	return x.errs
}

// marks are the changes of a refresh that set the mark again: the first one, if
// any.
func marks(changes []wg.Change) []wg.Change {
	return slices.DeleteFunc(slices.Clone(changes), func(c wg.Change) bool { return c.Kind != wg.SetMark })
}

func afterMark(changes []wg.Change) []wg.Change {
	return slices.DeleteFunc(slices.Clone(changes), func(c wg.Change) bool { return c.Kind == wg.SetMark })
}

// clear takes the notes of what was refreshed away, and of what is pinned no
// longer, or not there: a device that comes is new.
func (x *Refresh) clear(tunnels []*tunnel, notes map[string]string, due bool) {
	failed := map[string]bool{}
	for _, t := range tunnels {
		failed[t.name] = t.failed
	}
	pinned := x.Decision.Reachable(x.Decision.PinnedDevices())
	// An error in the configuration may be why a device is not pinned.
	broken := len(x.Decision.Problems) > 0
	there := func(device string) bool {
		return slices.ContainsFunc(x.Decision.Facts.Links, func(l policy.Link) bool { return l.Name == device })
	}
	for device, note := range notes {
		bad, refreshed := failed[device]
		gone := !slices.Contains(pinned, device) && !(broken && there(device))
		switch {
		case refreshed && !bad && x.olderThan == 0, gone:
			if err := x.refresher.Due.done(device, note); err != nil {
				x.fail(err)
			}
		case due:
			x.refresher.Due.failed(map[string]string{device: note})
		}
	}
}

// quiet is from how many changes of a device on each is not named without -v.
const quiet = 64

// apply makes changes of a device, and says so.
func (x *Refresh) apply(ctx context.Context, t *tunnel, changes []wg.Change) {
	if len(changes) == 0 {
		return
	}
	if errs := x.refresher.Host.ApplyAll(ctx, t.name, changes); len(errs) > 0 {
		t.failed = true
		x.fail(errs...)
		return
	}
	log := x.refresher.Log
	each := log.Infof
	if len(changes) > quiet {
		log.Infof("= wg %s: %d steps", t.name, len(changes))
		each = log.Debugf
	}
	for _, c := range changes {
		each("%s", c)
	}
}
