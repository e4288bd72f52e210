package converge

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/nft/flows"
	nftkernel "wg-multihome/nft/kernel"
)

// applyTable brings the table to what is wanted: in one transaction, but for
// connections that run when the marking chain comes: conntrack is turned on
// first, and told of them. unguarded are marks without guards.
func (h *Host) applyTable(ctx context.Context, v View, unguarded map[fwmark.Mark]bool, failed *failures) {
	if len(unguarded) > 0 {
		h.wantTable(&v, unguarded)
	}
	h.setSysctls(v.Table.Sysctls, failed)
	plan := v.Table.Plan
	if plan.Empty() {
		return
	}
	err := h.transact(ctx, v.Table, nft.Diff)
	if err == nil {
		h.sayAll(plan.Steps)
		h.forgetFlows(v)
		return
	}
	failed.together(plan.Steps, err)
	if !plan.DropTable {
		h.applyParts(ctx, v.Table, failed)
	}
}

// together notes that steps of one transaction failed: it is one error.
func (f failures) together(steps []string, err error) {
	err = fmt.Errorf("%s: %w", strings.Join(steps, "; "), err)
	for _, step := range steps {
		f[step] = err
	}
}

// applyParts makes the changes of each part of the table by itself, after all
// of them together failed: the kernel may lack what one of them takes, and
// packets are locked in all the same.
func (h *Host) applyParts(ctx context.Context, t TableView, failed *failures) {
	client, err := h.table()
	if err != nil {
		return
	}
	for _, part := range nft.Parts {
		if t.Have, err = client.Read(); err != nil {
			return
		}
		steps := part.Diff(t.Have, t.Want, t.Names).Steps
		if err := h.transact(ctx, t, part.Diff); err != nil {
			failed.together(steps, err)
			continue
		}
		for _, step := range steps {
			delete(*failed, step)
		}
		h.sayAll(steps)
	}
}

// forgetFlows has conntrack forget the connections of marks that no service is
// pinned by any more. Where others keep conntrack, and not NAT, in use it would
// take them for masqueraded still, and drop the answers.
func (h *Host) forgetFlows(v View) {
	marks := v.going()
	for _, p := range v.Pins {
		marks = append(marks, p.Mark)
	}
	for _, m := range marks {
		name := nft.MarkSet(m)
		_, stood := v.Table.Have.Sets[name]
		if !stood || slices.ContainsFunc(v.Table.Want.Sets, func(s nft.Set) bool { return s.Name == name }) {
			continue
		}
		if err := nftkernel.Forget(m); err != nil {
			h.Log.Infof("%s", err)
		}
	}
}

// transact makes the changes that diff tells, in one transaction. Where
// conntrack may not know connections that run, the marking chain would take
// them for new: so conntrack is turned on first, and told of them. It is told
// before as well: a late packet of one that it does not know would be entered
// half, and a stateful firewall could drop what follows.
func (h *Host) transact(ctx context.Context, t TableView, diff func(nft.State, nft.Ruleset, map[uint64]string) nft.Plan) error {
	client, err := h.table()
	if err != nil {
		return err
	}
	plan := diff(t.Have, t.Want, nil)
	if plan.First {
		h.enterFlows(ctx)
		if err := client.Apply(diff(t.Have, t.Want.Warm(), nil)); err != nil {
			return err
		}
		h.enterFlows(ctx)
		if t.Have, err = client.Read(); err != nil {
			return err
		}
		plan = diff(t.Have, t.Want, nil)
	}
	return client.Apply(plan)
}

// enterFlows tells conntrack of the connections that run. One that it misses
// is cut off, not misled, so that is no reason to leave services unpinned.
func (h *Host) enterFlows(ctx context.Context) {
	n, err := flows.Enter(ctx)
	if err != nil {
		h.Log.Errorf("TCP connections that run may be cut off, as services get pinned: %s", err)
	}
	if n > 0 {
		h.Log.Debugf("conntrack was told of %d TCP connections", n)
	}
}

func (h *Host) setSysctls(steps []nft.Sysctl, failed *failures) {
	for _, s := range steps {
		err := error(nil)
		if s.Value != 0 {
			err = h.State.WriteSysctl(s.Device) // before: a kill must not lose it
		}
		if err == nil {
			err = nftkernel.Set(s)
		}
		if err == nil && s.Value == 0 {
			err = h.State.DropSysctl(s.Device)
		}
		if err != nil {
			(*failed)[s.String()] = err
			continue
		}
		h.Log.Infof("%s", s)
	}
}

// forget drops what is noted of sysctls that are not ours any more.
func (h *Host) forget(v *View) {
	for _, device := range v.Table.Stale {
		v.Errs = appendErr(v.Errs, h.State.DropSysctl(device))
	}
}

// sayAll names steps that were made.
func (h *Host) sayAll(steps []string) {
	each := h.Log.Infof
	if len(steps) > quiet {
		h.Log.Infof("%d steps", len(steps))
		each = h.Log.Debugf
	}
	for _, s := range steps {
		each("%s", s)
	}
}
