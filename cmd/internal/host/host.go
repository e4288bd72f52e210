package host

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"wg-multihome/cmd/internal/logging"
	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark/config"
	socketkernel "wg-multihome/fwmark/socket/kernel"
	"wg-multihome/nft"
	"wg-multihome/nft/flows"
	nftkernel "wg-multihome/nft/kernel"
	"wg-multihome/policy"
	"wg-multihome/policy/kernel"
	"wg-multihome/wg"
)

// Host is how the machine is reached: where its configuration and state lie,
// and the sockets to its kernel. It remembers nothing of what it has seen.
// Close frees it. It is not for several goroutines at once, but for what is
// done with WireGuard devices.
type Host struct {
	Files  config.Files
	State  state.Dir
	Log    *logging.Logger
	Kernel Rtnetlink
	Nft    Nftables // nil until the table is asked for

	// InForce returns the configuration that counts, which may be another one than
	// what was read: see the room try. nil: what was read does.
	InForce func(config.Config) config.Config

	// Before returns what was in force when a run has converged last, and nil where
	// that was not noted. nil: nobody knows.
	Before func() (*config.Config, error)

	// Whole has every cgroup be asked for programs of ours, where there may be some,
	// and not those alone that are listed or noted.
	Whole bool

	// Patient has an error in the configuration stand as long as its files are the
	// same: ifquery is not asked once more.
	Patient bool

	flows     flows.Client
	questions questions
	conntrack nftkernel.Conntrack
	sockets   *socketkernel.Client // nil until a cgroup is asked

	wg       *wg.Client // nil until a device is asked for
	wgKernel bool       // it was opened while the kernel had WireGuard
}

// Rtnetlink is what is asked of the kernel's rules and routes: *kernel.Client.
type Rtnetlink interface {
	ReadLinks(*policy.Facts) error
	ReadAddrs(*policy.Facts) error
	ReadRules(*policy.Facts) error
	ReadRoutes(*policy.Facts) error
	Tables(tables []uint32) ([]policy.Route, error)
	ReadDeviceRoutes(f *policy.Facts, devices []string) error
	Leaves(dst netip.Addr, mark uint32) (device string, err error)
	Ask([]policy.Packet) ([]policy.Answer, error)
	Apply([]policy.Step) []error // one for each step
	Close()
}

// Nftables is what is asked of the kernel's nf_tables: *nftkernel.Client.
type Nftables interface {
	Read() (nft.State, error)
	Apply(nft.Plan) error
	Expect([]nft.Late) error
	Close()
}

// Open opens the kernel's sockets.
func Open(files config.Files, dir state.Dir, log *logging.Logger) (*Host, error) {
	k, err := kernel.Open()
	if err != nil {
		return nil, err
	}
	return &Host{Files: files, State: dir, Log: log, Kernel: k}, nil
}

// Close frees what the host holds.
func (h *Host) Close() {
	h.Kernel.Close()
	if h.Nft != nil {
		h.Nft.Close()
	}
	h.flows.Close()
	h.conntrack.Close()
	if h.sockets != nil {
		h.sockets.Close()
	}
	if h.wg != nil {
		_ = h.wg.Close() // its sockets end with the process in any case
	}
}

// table returns the client of nf_tables, opened at its first use.
func (h *Host) table() (Nftables, error) {
	if h.Nft == nil {
		c, err := nftkernel.Open()
		if err != nil {
			return nil, err
		}
		h.Nft = c
	}
	return h.Nft, nil
}

// devices returns the client of WireGuard devices, opened at its first use:
// most hosts have no such device.
func (h *Host) devices() (*wg.Client, error) {
	if h.wg == nil {
		inKernel := wg.InKernel()
		c, err := wg.Open()
		if err != nil {
			return nil, err
		}
		h.wg, h.wgKernel = c, inKernel
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
