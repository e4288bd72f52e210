package converge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark"
	"wg-multihome/wg"
)

// refreshTime bounds a refresh, of however many devices and with the time that
// devices were waited for before it: a DHCP client waits for its hook.
// refreshLeast is what it gets in any case, and what is not waited for the end of
// other runs; moveTime is what is left once names are not waited for any longer.
const (
	refreshTime  = 5 * time.Second
	refreshLeast = 2 * time.Second
	moveTime     = time.Second
)

// Refresh refreshes the named devices, or all that are pinned, now. With
// olderThan it is only about peers whose last handshake is older.
func (h *Host) Refresh(ctx context.Context, names []string, olderThan time.Duration) Report {
	if err := Privileged(); err != nil {
		return Report{Errs: []error{err}}
	}
	h.waited = 0
	v, err := h.Look(ctx)
	if err != nil {
		return Report{Errs: []error{err}}
	}
	report := Report{Problems: v.Problems, Errs: v.Errs}
	pinned := v.pinnedDevices()
	for _, name := range names {
		if !slices.Contains(pinned, name) {
			report.Problems = append(report.Problems, fwmark.Problem{Text: fmt.Sprintf("no uplink lists WireGuard device %q", name)})
		} else if len(v.perhaps([]string{name})) == 0 {
			report.Errs = append(report.Errs, fmt.Errorf("WireGuard device %q is not there", name))
		}
	}
	if len(names) > 0 {
		pinned = slices.DeleteFunc(pinned, func(d string) bool { return !slices.Contains(names, d) })
	}
	r := refresh{host: h, olderThan: olderThan}
	report.Errs = append(report.Errs, r.run(ctx, pinned)...)
	return report
}

// pinnedDevices returns the devices of all pins.
func (v View) pinnedDevices() []string {
	var devices []string
	for _, p := range v.Pins {
		devices = append(devices, p.Devices...)
	}
	slices.Sort(devices)
	return devices
}

// refresh is a refresh of several devices, side by side.
type refresh struct {
	host      *Host
	view      View // from begin on
	olderThan time.Duration
	noted     bool // those that are noted as due are refreshed too

	mu   sync.Mutex
	errs []error
}

// tunnel is a device that is being refreshed.
type tunnel struct {
	wg.Case
	name   string
	failed bool
}

func (r *refresh) fail(errs ...error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, errs...)
}

// run refreshes devices: all that needs no name at once, and then by names. No
// device waits for another one.
func (r *refresh) run(ctx context.Context, devices []string) []error {
	ends := time.Now().Add(max(refreshTime-r.host.waited, refreshLeast))
	ctx, cancel := context.WithDeadline(ctx, ends)
	defer cancel()
	tunnels, notes, unlock := r.begin(ctx, devices, time.Until(ends)-refreshLeast)
	var marked, all sync.WaitGroup
	for _, t := range tunnels {
		marked.Add(1)
		all.Add(1)
		go func() {
			defer all.Done()
			changes := t.Case.Refresh()
			r.apply(ctx, t, marks(changes))
			marked.Done()
			r.apply(ctx, t, afterMark(changes))
			asking, cancel := context.WithDeadline(ctx, ends.Add(-moveTime))
			defer cancel()
			r.follow(ctx, t, wg.LookUp(asking, t.Names(), t.Ways))
		}()
	}
	marked.Wait()
	unlock()
	all.Wait()
	r.end(tunnels, notes)
	return r.errs
}

// begin looks at the host, while no other run converges, up to unlock: between
// the look and the marks it might take the mark away, and the guards; and by an
// older look a device that has come since would seem gone, and lose its note.
// The notes are read then too, as the steps that they were made for are done. It
// returns the devices that are there.
func (r *refresh) begin(ctx context.Context, devices []string, wait time.Duration) (tunnels []*tunnel, notes map[string]string, unlock func()) {
	none := func() {}
	unlock, err := r.host.State.Lock(ctx, wait)
	switch {
	case errors.Is(err, state.ErrBusy), err != nil && ctx.Err() != nil:
		r.fail(fmt.Errorf("refresh tunnels: %w", err))
		notes, _ = r.host.due()
		maps.Copy(r.host.tried, notes)
		return nil, nil, none
	case err != nil:
		r.fail(err) // a full STATE-DIR is no reason to leave tunnels broken
		unlock = none
	}
	if notes, err = r.host.due(); err != nil {
		r.fail(err)
	}
	if r.noted {
		devices = append(slices.Clone(devices), sortedKeys(notes)...)
	}
	if len(devices) == 0 {
		return nil, nil, unlock // notes of others are none of this refresh's business
	}
	if r.view, err = r.host.Look(ctx); err != nil {
		r.fail(err)
		maps.Copy(r.host.tried, notes)
		return nil, nil, unlock
	}
	return r.cases(ctx, r.view.perhaps(devices)), notes, unlock
}

// marks are the changes of a refresh that set the mark again: the first one, if
// any.
func marks(changes []wg.Change) []wg.Change {
	return slices.DeleteFunc(slices.Clone(changes), func(c wg.Change) bool { return c.Kind != wg.SetMark })
}

func afterMark(changes []wg.Change) []wg.Change {
	return slices.DeleteFunc(slices.Clone(changes), func(c wg.Change) bool { return c.Kind == wg.SetMark })
}

// end takes the notes of what was refreshed away, and of what is pinned no
// longer, or not there: a device that comes is new.
func (r *refresh) end(tunnels []*tunnel, notes map[string]string) {
	failed := map[string]bool{}
	for _, t := range tunnels {
		failed[t.name] = t.failed
	}
	pinned := r.view.perhaps(r.view.pinnedDevices())
	for device, note := range notes {
		bad, refreshed := failed[device]
		gone := !slices.Contains(pinned, device)
		switch {
		case refreshed && !bad && r.olderThan == 0, gone:
			delete(r.host.unwritten, device)
			if err := r.host.State.DoneDue(device, note); err != nil {
				r.fail(err)
				r.host.tried[device] = note
			}
		case r.noted:
			r.host.tried[device] = note
		}
	}
}

// apply makes changes of a device, and says so.
func (r *refresh) apply(ctx context.Context, t *tunnel, changes []wg.Change) {
	if len(changes) == 0 {
		return
	}
	errs := r.host.wg.ApplyAll(ctx, t.name, changes)
	if len(errs) > 0 {
		t.failed = true
		r.fail(errs...)
		return
	}
	each := r.host.Log.Infof
	if len(changes) > quiet {
		r.host.Log.Infof("= wg %s: %d steps", t.name, len(changes))
		each = r.host.Log.Debugf
	}
	for _, c := range changes {
		each("%s", c)
	}
}

// cases reads the devices, and what their refresh is decided by.
func (r *refresh) cases(ctx context.Context, devices []string) []*tunnel {
	if len(devices) == 0 {
		return nil
	}
	client, err := r.host.devices()
	if err != nil {
		r.fail(err)
		return nil
	}
	details, errs := client.Inspect(ctx, devices)
	r.fail(permissionOnce(errs)...)
	now := time.Now()
	var tunnels []*tunnel
	for _, d := range details {
		i := slices.IndexFunc(r.view.Pins, func(p fwmark.Pin) bool { return slices.Contains(p.Devices, d.Name) })
		if i < 0 {
			continue
		}
		p := r.view.Pins[i]
		t := &tunnel{name: d.Name, Case: wg.Case{
			Device: d, Mark: p.Mark.Value, Rotate: slices.Contains(p.RotatePort, d.Name), Ways: r.view.ways(p.Uplink),
			OlderThan: r.olderThan, Now: now,
		}}
		if t.File, err = r.view.file(d.Name); err != nil {
			r.fail(err)
		}
		t.Inside = map[netip.Addr]bool{}
		for a := range r.host.inside(r.view, t.Routes(), d.Mark) {
			t.Inside[a] = true
		}
		if d.Mark != p.Mark.Value {
			r.fail(fmt.Errorf("WireGuard device %q does not carry mark %s, so it is not refreshed", d.Name, p.Mark))
			t.failed = true
		}
		tunnels = append(tunnels, t)
	}
	return tunnels
}
