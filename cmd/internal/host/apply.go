package host

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/state"
	"wg-multihome/nft"
	nftkernel "wg-multihome/nft/kernel"
	"wg-multihome/policy"
)

// Apply makes steps, in their order, each whatever became of the others.
func (h *Host) Apply(ctx context.Context, steps []decide.Step) (out decide.Outcome) {
	for len(steps) > 0 {
		n := alike(steps)
		switch step := steps[0].(type) {
		case decide.RuleStep:
			h.applyRules(steps[:n], &out)
		case decide.DeviceStep:
			h.applyDevices(ctx, steps[:n], &out)
		case decide.SocketStep:
			out.Add(step, h.applySocket(ctx, step))
		case decide.SocketMove:
			out.Add(step, h.moveSockets(ctx, step))
		case decide.SocketGone:
			out.Add(step, h.note(func(s state.Sockets) state.Sockets { return s.Drop(step.Cgroups...) }))
		case decide.SysctlStep:
			out.Add(step, h.setSysctl(step.Sysctl))
		case decide.SysctlGone:
			out.Add(step, h.State.DropSysctl(step.Device))
		case decide.TableStep:
			h.applyTable(ctx, step, &out)
		case decide.ForgetStep:
			out.Add(step, h.forget(ctx, step))
		case decide.ForgetSourceStep:
			out.Add(step, nftkernel.ForgetSource(step.Address))
		default:
			out.Add(step, fmt.Errorf("a step of unknown kind %T", step))
		}
		steps = steps[n:]
	}
	return out
}

// alike returns how many of the first steps can be made in one go.
func alike(steps []decide.Step) int {
	n := 1
	switch steps[0].(type) {
	case decide.RuleStep:
		for ; n < len(steps); n++ {
			if _, is := steps[n].(decide.RuleStep); !is {
				break
			}
		}
	case decide.DeviceStep:
		for ; n < len(steps); n++ {
			if _, is := steps[n].(decide.DeviceStep); !is {
				break
			}
		}
	}
	return n
}

func (h *Host) applyRules(steps []decide.Step, out *decide.Outcome) {
	// Of a thousand addresses a copy of all steps takes a megabyte.
	const some = 128
	list := make([]policy.Step, 0, min(len(steps), some))
	for part := range slices.Chunk(steps, some) {
		list = list[:0]
		for _, s := range part {
			list = append(list, s.(decide.RuleStep).Step)
		}
		for i, err := range h.Kernel.Apply(list) {
			out.Add(part[i], err)
		}
	}
}

// applyDevices makes changes of devices, one of each, side by side: one that
// does not answer is waited for by no other.
func (h *Host) applyDevices(ctx context.Context, steps []decide.Step, out *decide.Outcome) {
	errs := make([]error, len(steps))
	client, err := h.devices()
	var all sync.WaitGroup
	for i, s := range steps {
		if err != nil {
			errs[i] = err
			continue
		}
		all.Add(1)
		go func() {
			defer all.Done()
			errs[i] = client.Apply(ctx, s.(decide.DeviceStep).Change)
		}()
	}
	all.Wait()
	for i, s := range steps {
		out.Add(s, errs[i])
	}
}

// setSysctl notes that the setting is ours before it is made, and drops the note
// after it was put back: a kill must not lose it.
func (h *Host) setSysctl(s nft.Sysctl) error {
	if s.Value != 0 {
		if err := h.State.WriteSysctl(s.Device); err != nil {
			return err
		}
	}
	if err := nftkernel.Set(s); err != nil {
		return err
	}
	if s.Value == 0 {
		return h.State.DropSysctl(s.Device)
	}
	return nil
}

// applyTable brings the table to what is wanted: in one transaction, but for
// connections that run when the marking chain comes. Where the kernel refuses
// that, each part is changed by itself: it may lack what one of them takes, and
// packets are locked in all the same.
func (h *Host) applyTable(ctx context.Context, s decide.TableStep, out *decide.Outcome) {
	plan := s.Plan()
	if plan.ConntrackFirst {
		s.Have = h.lockFirst(s)
	}
	err := h.transact(ctx, s, nft.Diff)
	switch {
	case err == nil:
		out.Made = append(out.Made, plan.Steps...)
	case plan.DropTable || !h.applyParts(ctx, s, out):
		out.Fail(plan.Steps, together(plan.Steps, err))
	}
}

// lockFirst has the second lock stand, where there is no table, before anything is
// asked of connections: to enter 10,000 of them takes 0.2 s. It returns what stands
// then. What the kernel refuses of it comes with the rest, and so does its error.
func (h *Host) lockFirst(s decide.TableStep) nft.State {
	client, err := h.table()
	if err != nil || s.Have.Exists {
		return s.Have
	}
	lock := nft.LockPart.Diff(s.Have, s.Want, nil)
	if lock.Empty() || client.Apply(lock) != nil {
		return s.Have
	}
	return nft.After(s.Have, lock.Want)
}

// together names what failed in one transaction, and first of all why: the list
// may be cut off.
func together(lines []string, err error) error {
	return fmt.Errorf("%w: %s", err, strings.Join(lines, "; "))
}

// applyParts changes the parts of the table one by one. It is false where
// nothing could be tried.
func (h *Host) applyParts(ctx context.Context, s decide.TableStep, out *decide.Outcome) bool {
	client, err := h.table()
	if err != nil {
		return false
	}
	var failure error
	for _, part := range nft.Parts {
		if s.Have, err = client.Read(); err != nil {
			return false
		}
		lines := part.Diff(s.Have, s.Want, s.Names).Steps
		if err := h.transact(ctx, s, part.Diff); err != nil {
			failure = together(lines, err)
			out.Fail(lines, failure)
		} else {
			out.Made = append(out.Made, lines...)
		}
	}
	if have, err := client.Read(); err == nil && failure != nil { // the lock lacks what it asks of connections
		rest := nft.Diff(have, s.Want, s.Names).Steps
		out.Fail(slices.DeleteFunc(rest, func(line string) bool { return out.Failed[line] != nil }), failure)
	}
	return true
}

// differ plans the way from what stands of the table, or of a part of it, to what is
// wanted.
type differ func(nft.State, nft.Ruleset, map[uint64]string) nft.Plan

// transact makes the changes that diff tells, in one transaction as a rule. Where
// conntrack may not know connections that run, the marking chain would take
// them for new: so conntrack is turned on first, and told of them. It is told
// before as well: a late packet of one that it does not know would be entered
// half, and a stateful firewall could drop what follows. A cgroup that gets another
// mark has both until no packet is on its way that looks for the old one. What services
// have sent without a mark is forgotten last, and that this is to be done stands in the
// table: a run may be killed before.
func (h *Host) transact(ctx context.Context, s decide.TableStep, diff differ) error {
	client, err := h.table()
	if err != nil {
		return err
	}
	plan := diff(s.Have, s.Want, nil)
	have, want := s.Have, s.Want
	forgets := plan.ConntrackFirst || slices.Contains(plan.DropCounters, nft.Unforgotten)
	if forgets {
		want = want.WithUnforgotten()
	}
	if plan.ConntrackFirst {
		h.readQuestions(ctx)
		h.enterFlows(ctx)
		if have, err = reached(client, diff(have, want.WithoutMarks(), nil)); err != nil {
			return err
		}
		h.enterFlows(ctx)
	}
	if both, moves := want.Keeping(have); moves {
		if have, err = reached(client, diff(have, both, nil)); err != nil {
			return err
		}
		h.settle()
	}
	if forgets {
		if have, err = reached(client, diff(have, want, nil)); err != nil {
			return err
		}
		if err := h.forgetUnmarked(ctx, have, s.Want); err != nil {
			return err
		}
	}
	return client.Apply(diff(have, s.Want, nil))
}

// reached makes a plan's changes, and returns what stands then.
func reached(client Nftables, plan nft.Plan) (nft.State, error) {
	if err := client.Apply(plan); err != nil {
		return nft.State{}, err
	}
	return client.Read()
}
