package converge

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/config"
	"wg-multihome/policy"
	"wg-multihome/wg"
)

// View is what one look at the host shows, and what follows from it.
type View struct {
	Facts   policy.Facts
	Records map[string]state.Record
	Config  config.Config

	Uplinks  []fwmark.Uplink
	Pins     []fwmark.Pin
	Problems []fwmark.Problem // errors in the configuration
	Wanted   policy.Wanted
	Table    TableView
	Devices  []wg.Device     // those that are there, listed or not
	Unread   []string        // those that may be there, but could not be read
	Tunnels  []fwmark.Tunnel // those of them that are full tunnels

	Errs []error // what could not be read, or cannot be had

	ended []fwmark.Mark // marks that are to be nobody's, whether guards stand or not
}

// Look gathers facts and decides what is wanted. An error means that the
// kernel could not be read.
func (h *Host) Look(ctx context.Context) (View, error) {
	v, err := h.gather()
	if err != nil {
		return View{}, err
	}
	h.readDevices(ctx, &v)
	if err := h.readTunnels(&v); err != nil {
		return View{}, err
	}
	h.readTable(&v)
	v.want()
	h.remember(v.Wanted.Have.Rules)
	h.wantTable(&v, nil)
	return v, nil
}

func (h *Host) gather() (View, error) {
	v := View{Config: h.config}
	var err error
	if v.Facts, err = h.kernel.Facts(); err != nil {
		return View{}, err
	}
	for i := range v.Facts.Links {
		l := &v.Facts.Links[i]
		l.WireGuard = l.WireGuard || wg.Userspace(l.Name)
	}
	v.Records, v.Errs = h.leases()
	for iface, r := range v.Records {
		v.Facts.Leases = append(v.Facts.Leases, policy.Lease{Device: iface, Address: r.Address.Addr(), Gateway: r.Gateway})
	}
	slices.SortFunc(v.Facts.Leases, func(a, b policy.Lease) int { return strings.Compare(a.Device, b.Device) })
	v.Facts.ScriptRules = h.taken
	for _, family := range fwmark.Families {
		if !v.Facts.Families[family] {
			h.Log.Debugf("this kernel has no policy rules for IPv%s", family)
		}
	}
	return v, nil
}

// want decides which uplinks, pins, rules and routes there are to be. A
// configuration may show its error only against the uplinks; then it is asked
// again, with what stands counted in.
func (v *View) want() {
	intents, standing := v.Config.Intents, v.standing()
	var errs []error
	for _, broken := range []bool{len(v.Config.Problems) > 0, true} {
		v.Uplinks, errs = policy.Uplinks(v.Facts, intents, broken)
		v.Pins, v.Problems = fwmark.Resolve(intents, v.Config.Problems, standing, v.tables(), v.Tunnels)
		if broken || len(v.Problems) == 0 {
			break
		}
	}
	v.Wanted = policy.Want(v.Facts, v.Uplinks, v.Pins, v.Config.Priority)
	v.Errs = append(append(v.Errs, errs...), v.Wanted.Errs...)
}

// standing returns the marks that stand: by their guards, or by the second lock
// alone where others have deleted those.
func (v *View) standing() []fwmark.Claim {
	standing := policy.Standing(v.Facts)
	for _, c := range v.Table.Have.Claims() {
		if !slices.ContainsFunc(standing, func(s fwmark.Claim) bool { return s.Mark == c.Mark }) {
			standing = append(standing, c)
		}
	}
	return standing
}

// tables returns the tables of the uplinks' addresses.
func (v *View) tables() map[uint32]netip.Addr {
	tables := map[uint32]netip.Addr{}
	for _, u := range v.Uplinks {
		for _, a := range u.Addrs {
			tables[policy.TableOf(a)] = a
		}
	}
	return tables
}

// readDevices reads the WireGuard devices that are there, listed ones of any
// kind among them. Only those are asked that have a link in this network
// namespace: sockets of userspace devices are shared by all.
func (h *Host) readDevices(ctx context.Context, v *View) {
	listed := map[string]bool{}
	for _, in := range v.Config.Intents {
		for _, d := range in.Devices {
			listed[d] = true
		}
	}
	var names []string
	for _, l := range v.Facts.Links {
		if l.WireGuard || listed[l.Name] {
			names = append(names, l.Name)
		}
	}
	if len(names) == 0 {
		return
	}
	client, err := h.devices()
	if err != nil {
		v.Errs, v.Unread = append(v.Errs, err), names
		return
	}
	begun := time.Now()
	devices, errs := client.Read(ctx, names)
	h.waited += time.Since(begun)
	v.Devices, v.Unread = devices, nil
	for _, err := range errs {
		var unread *wg.ReadError
		if errors.As(err, &unread) {
			v.Unread = append(v.Unread, unread.Device)
		}
	}
	v.Errs = append(v.Errs, permissionOnce(errs)...)
}

// Plan returns the steps from what stands to what is wanted, as text and in
// the order in which they would be made.
func (v View) Plan() []string {
	plan := policy.Diff(v.Wanted.Have, v.Wanted.State)
	lines := []string{}
	for _, s := range plan.Open {
		lines = append(lines, s.String())
	}
	for _, s := range v.Table.Sysctls {
		lines = append(lines, s.String())
	}
	lines = append(lines, v.Table.Plan.Steps...)
	for _, c := range v.changes() {
		lines = append(lines, c.String())
	}
	for _, s := range plan.Close {
		lines = append(lines, s.String())
	}
	return lines
}

// settled reports whether nothing is to be done.
func (v View) settled() bool {
	return len(policy.Open(v.Wanted.Have, v.Wanted.State)) == 0 && len(policy.Close(v.Wanted.Have, v.Wanted.State, nil)) == 0 &&
		v.Table.settled() && len(v.changes()) == 0
}

// changes returns what there is to do at devices.
func (v View) changes() []wg.Change {
	changes := wg.Want(v.Devices, v.Pins)
	return append(changes, wg.Release(afterChanges(v.Devices, changes), v.going(), v.tunnelMarks())...)
}

// guarded reports whether a mark's guards, ours, stand.
func (v View) guarded(m fwmark.Mark) bool { return policy.Guarded(v.Facts, m) }

// going returns the marks whose guards stand and that are pinned no longer.
func (v View) going() []fwmark.Mark {
	going := slices.Clone(v.ended)
	for _, c := range policy.Standing(v.Facts) {
		if !slices.ContainsFunc(v.Pins, func(p fwmark.Pin) bool { return p.Mark == c.Mark }) {
			going = append(going, c.Mark)
		}
	}
	return going
}

func afterChanges(devices []wg.Device, changes []wg.Change) []wg.Device {
	after := slices.Clone(devices)
	for _, c := range changes {
		for i := range after {
			if after[i].Name == c.Device {
				after[i].Mark = c.Mark
			}
		}
	}
	return after
}
