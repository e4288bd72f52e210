package refresh

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"wg-multihome/cmd/internal/host"
	"wg-multihome/fwmark"
	"wg-multihome/wg"
)

// tunnel is a device that is being refreshed.
type tunnel struct {
	wg.Refresh
	name   string
	failed bool
}

// tunnels reads the devices, and what their refresh is decided by.
func (x *Refresh) tunnels(ctx context.Context, devices []string) []*tunnel {
	details, errs := x.refresher.Host.Inspect(ctx, devices)
	x.fail(host.PermissionOnce(errs)...)
	now := time.Now()
	var tunnels []*tunnel
	for _, d := range details {
		i := slices.IndexFunc(x.Decision.Pins, func(p fwmark.Pin) bool { return slices.Contains(p.Devices, d.Name) })
		if i >= 0 {
			tunnels = append(tunnels, x.tunnel(d, x.Decision.Pins[i], now))
		}
	}
	return tunnels
}

// tunnel gathers what the refresh of a pinned device is decided by.
func (x *Refresh) tunnel(d wg.Detail, p fwmark.Pin, now time.Time) *tunnel {
	t := &tunnel{name: d.Name, Refresh: wg.Refresh{
		Device: d, Mark: p.Mark.Value, RotatePort: slices.Contains(p.RotatePort, d.Name), Families: x.Decision.Families(p.Uplink),
		OlderThan: x.olderThan, Now: now, InTunnel: map[netip.Addr]bool{},
	}}
	o := x.Decision.Observation
	var err error
	if t.File, err = x.refresher.Host.ReadFile(o, d.Name); err != nil {
		x.fail(err)
	}
	for a := range x.refresher.Host.IntoTunnels(o, t.AddressesToRoute(), d.Mark) {
		t.InTunnel[a] = true
	}
	if d.Mark != p.Mark.Value {
		x.fail(fmt.Errorf("WireGuard device %q does not carry mark %s, so it is not refreshed", d.Name, p.Mark))
		t.failed = true
	}
	return t
}

// follow sets the endpoints of peers whose names have moved, as the answers
// come: a name that is never answered keeps no other one back. What the device
// is by then decides, it may have been configured since.
func (x *Refresh) follow(ctx context.Context, t *tunnel, answers <-chan wg.Answer) {
	for a := range answers {
		came := map[string]wg.Answer{a.Name: a}
		for range len(answers) {
			more := <-answers
			came[more.Name] = more
		}
		moved, kept := t.AfterLookUp(came)
		for _, err := range kept {
			x.refresher.Log.Errorf("%s", err) // named, and never fatal
		}
		if len(moved) == 0 || !x.readAgain(ctx, t) {
			continue
		}
		moved, _ = t.AfterLookUp(came)
		x.apply(ctx, t, moved)
	}
}

// readAgain reads a device once more, and reports whether it is there.
func (x *Refresh) readAgain(ctx context.Context, t *tunnel) bool {
	details, errs := x.refresher.Host.Inspect(ctx, []string{t.name})
	if len(errs) > 0 {
		t.failed = true
		x.fail(errs...)
	}
	if len(details) == 0 {
		return false
	}
	t.Device, t.Now = details[0], time.Now()
	return true
}
