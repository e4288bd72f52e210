package converge

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
	nftkernel "wg-multihome/nft/kernel"
	"wg-multihome/policy"
)

// nftables is what a run asks of the kernel's nf_tables: *nftkernel.Client.
type nftables interface {
	Read() (nft.State, error)
	Apply(nft.Plan) error
	Close()
}

// TableView is what a look shows of our nftables table and what goes with it.
type TableView struct {
	Have    nft.State
	Want    nft.Ruleset
	Plan    nft.Plan
	Sysctls []nft.Sysctl
	Stale   []string // devices that are noted for their sysctl and need not be
	Facts   nft.Facts
	Names   map[uint64]string // paths of cgroups by id, for the text of steps

	// Lack is why nothing is known of the table, and nothing to be done about
	// it: no nf_tables in this kernel, or no leave to read. nil: it was read.
	Lack error
}

// settled reports whether nothing is to be done.
func (t TableView) settled() bool { return t.Plan.Empty() && len(t.Sysctls) == 0 }

// table returns the client, opened at its first use.
func (h *Host) table() (nftables, error) {
	if h.nft == nil {
		c, err := nftkernel.Open()
		if err != nil {
			return nil, err
		}
		h.nft = c
	}
	return h.nft, nil
}

// readTable reads our nftables table.
func (h *Host) readTable(v *View) {
	client, err := h.table()
	if err == nil {
		v.Table.Have, err = client.Read()
	}
	switch {
	case errors.Is(err, nftkernel.ErrNone), errors.Is(err, fs.ErrPermission):
		v.Table.Lack = err
		h.Log.Debugf("%s", err)
	case err != nil:
		v.Table.Lack = err
		v.Errs = append(v.Errs, err)
	}
}

// wantTable decides what is to stand in the table. unguarded are marks without
// guards.
func (h *Host) wantTable(v *View, unguarded map[fwmark.Mark]bool) {
	t := &v.Table
	if t.Lack != nil {
		if slices.ContainsFunc(v.Pins, func(p fwmark.Pin) bool { return len(p.Cgroups) > 0 }) && !errors.Is(t.Lack, fs.ErrPermission) {
			v.Errs = append(v.Errs, fmt.Errorf("services cannot be pinned: %w", t.Lack))
		}
		return
	}
	t.Facts = nft.Facts{
		Uplinks: v.Uplinks, Pins: v.Pins, Devices: v.lockDevices(), Leases: v.boundLeases(), Reach: policy.Reach(v.Facts),
		Unguarded: unguarded, Broken: len(v.Problems) > 0, Have: t.Have,
	}
	t.Names = h.readCgroups(v)
	t.Want = nft.Want(t.Facts)
	t.Plan = nft.Diff(t.Have, t.Want, t.Names)
	h.wantSysctls(v)
}

func (h *Host) wantSysctls(v *View) {
	devices := nft.Masquerading(v.Table.Want)
	ours, err := h.State.ReadSysctls()
	for name := range ours {
		if !slices.Contains(devices, name) {
			devices = append(devices, name)
		}
	}
	v.Errs = appendErr(v.Errs, err)
	if len(devices) == 0 {
		return
	}
	filters, err := nftkernel.ReadFilters(devices)
	for i := range filters {
		filters[i].Ours = ours[filters[i].Device]
	}
	v.Errs = appendErr(v.Errs, err)
	v.Table.Sysctls = nft.Sysctls(v.Table.Want, filters)
	if filters != nil {
		v.Table.Stale = nft.Stale(ours, filters, v.Table.Sysctls)
	}
}

// lockDevices are the uplinks and the tunnels that are there, each with what
// lies behind it. While the configuration has an error, what the lock holds as
// it stands may be an uplink.
func (v *View) lockDevices() []nft.Device {
	uplinks := map[string]bool{}
	for _, u := range v.Uplinks {
		uplinks[u.Name] = true
	}
	if len(v.Problems) > 0 {
		for _, name := range v.Table.Have.Locked() {
			uplinks[name] = true
		}
	}
	behind := policy.DestinationsByDevice(v.Facts)
	var devices []nft.Device
	for _, l := range v.Facts.Links {
		if uplinks[l.Name] || nft.IsTunnel(l.Kind) {
			devices = append(devices, nft.Device{Name: l.Name, Prefixes: behind[l.Name]})
		}
	}
	return devices
}

// boundLeases are the leases whose address is on its interface.
func (v *View) boundLeases() []nft.Lease {
	var leases []nft.Lease
	for _, l := range v.Facts.Leases {
		on := func(a policy.Address) bool { return a.Device == l.Device && a.Prefix.Addr() == l.Address }
		if l.Address.Is4() && slices.ContainsFunc(v.Facts.Addrs, on) {
			leases = append(leases, nft.Lease{Uplink: l.Device, Address: l.Address})
		}
	}
	return leases
}

// unguarded returns the marks whose guards do not stand.
func (v *View) unguarded(guarded func(fwmark.Mark) bool) map[fwmark.Mark]bool {
	marks := map[fwmark.Mark]bool{}
	for _, p := range v.Pins {
		if !guarded(p.Mark) {
			marks[p.Mark] = true
		}
	}
	return marks
}
