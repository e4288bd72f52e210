package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/fwmark"
	nftkernel "wg-multihome/nft/kernel"
	"wg-multihome/policy"
	"wg-multihome/wg"
)

// Observe reads the given parts of an observation anew, and of rules and routes also what
// is Behind by what was read so far: so interfaces and devices come before rules, and
// those before routes. It leaves the others as they are. An error means that the kernel's rules and routes could not be
// read; what else could not be is noted in the observation.
func (h *Host) Observe(ctx context.Context, o *decide.Observation, parts decide.Parts) error {
	for _, part := range []struct {
		part decide.Parts
		read func(context.Context, *decide.Observation) error
	}{
		{decide.Configuration, h.readConfiguration}, {decide.Leases, h.readLeases}, {decide.Interfaces, h.readInterfaces},
		{decide.WireGuard, h.readDevices}, {decide.Rules, h.readRules}, {decide.Routes, h.readRoutes}, {decide.Nftables, h.readTable},
		{decide.Services, h.readCgroups}, {decide.Programs, h.readSockets}, {decide.Settings, h.readSysctls},
	} {
		if !parts.Has(part.part) && (!decide.Routing.Has(part.part) || !o.Behind().Has(part.part)) {
			continue
		}
		if err := part.read(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) readConfiguration(ctx context.Context, o *decide.Observation) error {
	if h.Patient {
		o.Config = o.Config.IfChanged(ctx, h.Files)
	} else {
		o.Config = o.Config.Again(ctx, h.Files)
	}
	if h.InForce != nil {
		o.Config = h.InForce(o.Config)
	}
	o.Before = nil
	if h.Before != nil && o.Broken() {
		before, err := h.Before()
		if err != nil {
			h.Log.Errorf("what was in force last is not known: %s", err)
		}
		o.Before = before
	}
	for _, note := range o.Config.Notes {
		h.Log.Debugf("%s", note)
	}
	return nil
}

func (h *Host) readLeases(_ context.Context, o *decide.Observation) error {
	records, errs := h.State.ReadLeases()
	o.Records = records
	o.Failed(decide.Leases, errs...)
	return nil
}

func (h *Host) readInterfaces(_ context.Context, o *decide.Observation) error {
	if err := h.Kernel.ReadLinks(&o.Facts); err != nil {
		return err
	}
	findUserspace(o)
	return h.Kernel.ReadAddrs(&o.Facts)
}

// findUserspace finds the links that are WireGuard devices of a process: the
// kernel does not say so.
func findUserspace(o *decide.Observation) {
	for i := range o.Facts.Links {
		l := &o.Facts.Links[i]
		l.WireGuard = l.WireGuard || wg.Userspace(l.Name)
	}
}

func (h *Host) readRules(_ context.Context, o *decide.Observation) error {
	return h.Kernel.ReadRules(&o.Facts)
}

// readRoutes reads our routes, main's, and those of RouteTables. Of an uplink whose gateway
// is not known it reads the routes of all tables: networkd and NetworkManager can be told
// to put its default into any.
func (h *Host) readRoutes(_ context.Context, o *decide.Observation) error {
	if err := h.Kernel.ReadRoutes(&o.Facts); err != nil {
		return err
	}
	findUserspace(o) // it may have read links again
	o.ReadTables = o.RouteTables()
	known := map[uint32]bool{0: true, policy.TableMain: true}
	for _, r := range o.Facts.Routes {
		known[r.Table] = true
	}
	var tables []uint32
	for _, d := range o.Devices.Found {
		if !known[d.Mark] {
			known[d.Mark] = true
			tables = append(tables, d.Mark)
		}
	}
	if len(tables) > 0 {
		routes, err := h.Kernel.Tables(tables)
		if err != nil {
			return fmt.Errorf("read the tables of WireGuard's marks: %w", err)
		}
		o.Facts.Routes = append(o.Facts.Routes, routes...)
	}
	if lacking := o.WithoutGateway(); len(lacking) > 0 {
		return h.Kernel.ReadDeviceRoutes(&o.Facts, lacking)
	}
	return nil
}

// readDevices reads the WireGuard devices that are there, listed ones of any
// kind among them. Only those are asked that have a link in this network
// namespace: sockets of userspace devices are shared by all.
func (h *Host) readDevices(ctx context.Context, o *decide.Observation) error {
	o.Devices = decide.Devices{}
	o.Failed(decide.WireGuard)
	listed := map[string]bool{}
	for _, c := range o.Configs() {
		for _, in := range c.Intents {
			for _, d := range in.Devices {
				listed[d] = true
			}
		}
	}
	var names []string
	for _, l := range o.Facts.Links {
		if l.WireGuard || listed[l.Name] {
			names = append(names, l.Name)
		}
		if l.Kind == "wireguard" && h.wg != nil && !h.wgKernel {
			// A client that was opened before the kernel had WireGuard knows userspace
			// devices alone, for ever.
			_ = h.wg.Close() // it is asked nothing any more
			h.wg = nil
		}
	}
	if len(names) == 0 {
		return nil
	}
	client, err := h.devices()
	if err != nil {
		o.Devices.Unread = names
		o.Failed(decide.WireGuard, err)
		return nil
	}
	begun := time.Now()
	devices, errs := client.Read(ctx, names)
	o.Devices = decide.Devices{Found: devices, Took: time.Since(begun)}
	for _, err := range errs {
		var unread *wg.ReadError
		if errors.As(err, &unread) {
			o.Devices.Unread = append(o.Devices.Unread, unread.Device)
		}
	}
	o.Failed(decide.WireGuard, PermissionOnce(errs)...)
	return nil
}

// PermissionOnce leaves one of many errors of permission: where the caller may
// not ask, the kernel says so for each name.
func PermissionOnce(errs []error) []error {
	var kept []error
	denied := false
	for _, err := range errs {
		if errors.Is(err, fs.ErrPermission) {
			if denied {
				continue
			}
			denied = true
		}
		kept = append(kept, err)
	}
	return kept
}

func (h *Host) readTable(_ context.Context, o *decide.Observation) error {
	o.Table = decide.Table{}
	o.Failed(decide.Nftables)
	client, err := h.table()
	if err == nil {
		o.Table.Have, err = client.Read()
	}
	o.Table.Missing = err
	o.Table.Unread = err != nil && !errors.Is(err, nftkernel.ErrNone) && !errors.Is(err, fs.ErrPermission)
	if o.Table.Unread {
		o.Failed(decide.Nftables, err)
	}
	for _, m := range o.MayRun() {
		runs, err := h.conntrack.Remembers(m)
		if err != nil {
			h.Log.Debugf("%s", err) // then they are forgotten
		}
		if runs {
			o.Table.Running = with(o.Table.Running, m)
		}
	}
	return nil
}

func with(marks map[fwmark.Mark]bool, m fwmark.Mark) map[fwmark.Mark]bool {
	if marks == nil {
		marks = map[fwmark.Mark]bool{}
	}
	marks[m] = true
	return marks
}

// readSysctls reads what answers to masqueraded connections depend on, of the
// uplinks in the configuration and of those that we have changed. Without a
// service nothing is masqueraded.
func (h *Host) readSysctls(_ context.Context, o *decide.Observation) error {
	ours, err := h.State.ReadSysctls()
	o.Sysctls = decide.Sysctls{Ours: ours}
	names := make([]string, 0, len(ours))
	for name := range ours {
		names = append(names, name)
	}
	for _, in := range o.Config.Intents {
		if in.Uplink != "" && !ours[in.Uplink] && (in.Cgroups != nil || len(o.Cgroups.Runs) > 0 || o.Table.Have.MarksConnections()) {
			names = append(names, in.Uplink)
		}
	}
	if len(names) == 0 {
		o.Failed(decide.Settings, err)
		return nil
	}
	filters, readErr := nftkernel.ReadFilters(names)
	for i := range filters {
		filters[i].Ours = ours[filters[i].Device]
	}
	o.Sysctls.Filters = filters
	o.Failed(decide.Settings, err, readErr)
	return nil
}
