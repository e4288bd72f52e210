package host

import (
	"context"
	"slices"
	"time"

	"wg-multihome/policy"
)

// Addresses returns what addresses an interface has now.
func (h *Host) Addresses(iface string) ([]policy.Address, error) {
	var f policy.Facts
	if err := h.Kernel.ReadLinks(&f); err != nil {
		return nil, err
	}
	if err := h.Kernel.ReadAddrs(&f); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(f.Addrs, func(a policy.Address) bool { return a.Device != iface }), nil
}

// AwaitAddresses waits while duplicate address detection goes on for an address
// of an interface, which can be no source until then, but no longer than limit.
// One that fails it, or is still at it then, is no error.
func (h *Host) AwaitAddresses(ctx context.Context, iface string, limit time.Duration) error {
	ctx, stop := context.WithTimeout(ctx, limit)
	defer stop()
	const interval = 50 * time.Millisecond
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		addrs, err := h.Addresses(iface)
		if err != nil || !slices.ContainsFunc(addrs, func(a policy.Address) bool { return a.Tentative }) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
