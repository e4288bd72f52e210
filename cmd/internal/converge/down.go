package converge

import (
	"context"
	"time"

	"wg-multihome/nft"
	"wg-multihome/nft/cgroup"
	"wg-multihome/policy"
)

// Down removes all that is ours: marks of devices, rules, routes. Records of
// leases stay, they are observations. An error in the configuration keeps
// nothing.
func (h *Host) Down(ctx context.Context, wait time.Duration) Report {
	return h.Locked(ctx, wait, h.down)
}

func (h *Host) down(ctx context.Context) Report {
	var failed failures
	h.removeRuns()
	for range rounds {
		now, done, err := h.bare(ctx)
		h.forget(&now)
		if err != nil || done {
			return Report{Errs: appendErr(now.Errs, err)}
		}
		failed = failures{}
		held := h.release(ctx, now, &failed)
		h.applyTable(ctx, now, nil, &failed)
		h.close(now, held, &failed)
	}
	now, _, err := h.bare(ctx)
	report := Report{Errs: appendErr(now.Errs, err)}
	for _, step := range now.Plan() {
		if failed[step] != nil {
			report.Errs = append(report.Errs, failed[step])
		}
	}
	return report
}

// removeRuns removes the cgroups of `run` that hold no process.
func (h *Host) removeRuns() {
	mount, err := cgroup.Find()
	if err == nil {
		_, err = mount.RemoveRuns()
	}
	if err != nil {
		h.Log.Debugf("cgroups of run: %s", err)
	}
}

// bare looks at the host as if nothing were wanted, and reports whether
// nothing of ours stands.
func (h *Host) bare(ctx context.Context) (View, bool, error) {
	v, err := h.gather()
	if err != nil {
		return View{}, false, err
	}
	v.Wanted = policy.Want(v.Facts, nil, nil, policy.DefaultPriority)
	h.readTable(&v)
	if v.Table.Lack == nil {
		v.Table.Plan = nft.Diff(v.Table.Have, nft.Ruleset{}, nil)
	}
	h.wantSysctls(&v)
	h.readDevices(ctx, &v)
	if err := h.readTunnels(&v); err != nil {
		return View{}, false, err
	}
	// Marks of the configuration too: others may have deleted their guards.
	for _, in := range h.config.Intents {
		if !in.Mark.IsZero() {
			v.ended = append(v.ended, in.Mark)
		}
	}
	return v, v.settled(), nil
}

func appendErr(errs []error, err error) []error {
	if err != nil {
		errs = append(errs, err)
	}
	return errs
}
