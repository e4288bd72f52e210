package converge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"wg-multihome/cmd/internal/logging"
	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark/config"
	"wg-multihome/policy"
	"wg-multihome/policy/kernel"
	"wg-multihome/wg"
)

// Host is the machine as this run sees it: where its configuration and state
// lie, and how it is reached. Close frees it.
type Host struct {
	State state.Dir
	Log   *logging.Logger

	config config.Config // read once: what a run began with it ends with
	kernel rtnetlink
	nft    nftables   // nil until the table is asked for
	wg     *wg.Client // nil until a device is asked for

	// said is what a DHCP client has said in this run and could not be
	// written; nil: the lease has ended.
	said map[string]*state.Record

	// unwritten are devices that are to be refreshed, where that could not be
	// noted; tried are those that could not be refreshed, with their note.
	unwritten map[string]bool
	tried     map[string]string

	// waited is how long this run was kept by reading devices: what one that is
	// silent takes is not there for a refresh.
	waited time.Duration

	// taken are the original script's rules that this run has recognised.
	taken []policy.Rule
}

// rtnetlink is what a run asks of the kernel: *kernel.Client.
type rtnetlink interface {
	Facts() (policy.Facts, error)
	Tables(tables []uint32) ([]policy.Route, error)
	Leaves(dst netip.Addr, mark uint32) (device string, err error)
	Apply([]policy.Step) []error // one for each step
	Close()
}

// NewHost reads the configuration and opens the kernel's sockets. The error
// is that of a named configuration file which is not there, or the kernel's.
func NewHost(ctx context.Context, files config.Files, dir state.Dir, log *logging.Logger) (*Host, error) {
	conf, err := config.Load(ctx, files)
	if err != nil {
		return nil, err
	}
	k, err := kernel.Open()
	if err != nil {
		return nil, err
	}
	return &Host{
		State: dir, Log: log, config: conf, kernel: k,
		said: map[string]*state.Record{}, unwritten: map[string]bool{}, tried: map[string]string{},
	}, nil
}

// Close frees what the host holds.
func (h *Host) Close() {
	h.kernel.Close()
	if h.nft != nil {
		h.nft.Close()
	}
	if h.wg != nil {
		_ = h.wg.Close() // its sockets end with the process in any case
	}
}

// Bound records a lease. Where it is a renewal, the time of the last BOUND or
// REBOOT stays. Where an error says that it could not be written, the lease
// counts in this run all the same.
func (h *Host) Bound(iface string, r state.Record, fresh bool) error {
	if fresh {
		r.Bound = r.When
	} else if records, _ := h.State.ReadLeases(); records[iface].Address.IsValid() {
		r.Bound = records[iface].Bound
	}
	err := h.State.WriteLease(iface, r)
	if err != nil {
		h.said[iface] = &r
	}
	return err
}

// Dropped ends an interface's lease, likewise.
func (h *Host) Dropped(iface string) error {
	err := h.State.DropLease(iface)
	if err != nil {
		h.said[iface] = nil
	}
	return err
}

// leases returns the records, and in place of those that could not be written
// what was said in this run.
func (h *Host) leases() (map[string]state.Record, []error) {
	records, errs := h.State.ReadLeases()
	for iface, r := range h.said {
		if r == nil {
			delete(records, iface)
		} else {
			records[iface] = *r
		}
	}
	return records, errs
}

// devices returns the WireGuard client, opened at its first use: most hosts
// have no such device.
func (h *Host) devices() (*wg.Client, error) {
	if h.wg == nil {
		c, err := wg.Open()
		if err != nil {
			return nil, err
		}
		h.wg = c
	}
	return h.wg, nil
}

// ErrPrivilege says that this process may not change rules and routes.
var ErrPrivilege = errors.New("changing rules and routes takes root, or CAP_NET_ADMIN")

// Privileged returns ErrPrivilege where the process lacks CAP_NET_ADMIN
// (capabilities(7)). Without this question each single step would fail.
func Privileged() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return ErrPrivilege
	}
	return nil
}

// HookTime is the time limit of one run of hooks.
func (h *Host) HookTime() time.Duration { return h.config.HookTimeout }

// remember keeps what of the original script was recognised: once some of it
// is deleted, the rest would look like a stranger's.
func (h *Host) remember(rules []policy.Rule) {
	for _, r := range rules {
		if !r.Ours() && !slices.Contains(h.taken, r) {
			h.taken = append(h.taken, r)
		}
	}
}
