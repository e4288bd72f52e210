package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/state"
	"wg-multihome/nft"
	"wg-multihome/nft/flows"
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

// forget has connections forgotten, also those that are about to be begun: what
// has passed the lock before that was shut is entered at the end of its way. A
// kernel without netlink for conntrack keeps what it remembers of a mark that comes:
// most probably nothing.
func (h *Host) forget(ctx context.Context, s decide.ForgetStep) error {
	if !s.Silent {
		h.settle()
	}
	if list, err := h.flows.Marked(ctx, s.Mark); err == nil {
		h.expectAnswers(list)
	} else {
		h.Log.Debugf("%s", err) // then conntrack most probably forgets nothing, too
	}
	err := h.conntrack.Forget(s.Mark)
	if s.Silent && errors.Is(err, nftkernel.ErrNone) {
		h.Log.Debugf("%s", err)
		return nil
	}
	return err
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
// mark has both until no packet is on its way that looks for the old one.
func (h *Host) transact(ctx context.Context, s decide.TableStep, diff differ) error {
	client, err := h.table()
	if err != nil {
		return err
	}
	have, unknown := s.Have, diff(s.Have, s.Want, nil).ConntrackFirst
	if unknown {
		h.readAsked(ctx)
		h.enterFlows(ctx)
		if have, err = reached(client, diff(have, s.Want.WithoutMarks(), nil)); err != nil {
			return err
		}
		h.enterFlows(ctx)
	}
	if both, moves := s.Want.Keeping(have); moves {
		if have, err = reached(client, diff(have, both, nil)); err != nil {
			return err
		}
		h.settle()
	}
	if err := client.Apply(diff(have, s.Want, nil)); err != nil {
		return err
	}
	if unknown {
		h.forgetUnmarked(ctx, client, s.Want)
	}
	return nil
}

// reached makes a plan's changes, and returns what stands then.
func reached(client Nftables, plan nft.Plan) (nft.State, error) {
	if err := client.Apply(plan); err != nil {
		return nft.State{}, err
	}
	return client.Read()
}

// settle waits for packets that are on their way through the table.
func (h *Host) settle() {
	if err := nftkernel.Settle(); err != nil {
		h.Log.Debugf("%s", err)
	}
}

// forgetUnmarked has conntrack forget what pinned services have sent while the
// marking chain was missing. What it keeps is as if it ran then.
func (h *Host) forgetUnmarked(ctx context.Context, client Nftables, want nft.Ruleset) {
	have, err := client.Read()
	n := 0
	if err == nil {
		p := flows.Pinned{Bits: want.ConnectionBits(), Cgroups: map[uint64]bool{}, Asked: h.asked()}
		for _, id := range slices.Concat(have.Paths(), have.PublicElements()) {
			p.Cgroups[id] = true
		}
		n, err = h.forgetSent(ctx, p)
	}
	if err != nil {
		h.Log.Errorf("new sockets of services may follow what conntrack remembers of older ones, for half a minute: %s", err)
	}
	if n > 0 {
		h.Log.Debugf("conntrack has forgotten %d UDP flows without a mark", n)
	}
}

// askedBefore is what others had begun by UDP before conntrack was turned on, and when
// that was. For a while after that an answer may be the first that conntrack sees.
type askedBefore struct {
	flows map[flows.Flow]bool
	at    time.Time
}

// readAsked reads it. Where that is not to be had, nothing else of conntrack is.
func (h *Host) readAsked(ctx context.Context) {
	asked, err := h.flows.Asked(ctx)
	if err != nil {
		h.Log.Debugf("%s", err)
	}
	h.before = askedBefore{asked, time.Now()}
}

// asked returns it for that while, and nil later.
func (h *Host) asked() map[flows.Flow]bool {
	if time.Since(h.before.at) > nft.LateTime {
		h.before = askedBefore{}
	}
	return h.before.flows
}

// forgetSent has conntrack forget what pinned services have sent without a mark, and
// returns how many flows that were.
func (h *Host) forgetSent(ctx context.Context, p flows.Pinned) (n int, err error) {
	list, err := h.flows.Unmarked(ctx, p)
	if err != nil {
		return 0, err
	}
	h.expectAnswers(list)
	return h.flows.Forget(ctx, list)
}

// expectAnswers has answers to what conntrack is about to forget be dropped. Without the
// part for services nobody gets a mark, and there is nothing to lose.
func (h *Host) expectAnswers(list []flows.Entry) {
	late := make([]nft.Late, len(list))
	for i, e := range list {
		late[i] = nft.Late{From: e.Remote, Port: e.Local.Port()}
	}
	client, err := h.table()
	if err == nil {
		err = client.Expect(late)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.Log.Errorf("what services send by UDP may be taken for answers, and get no mark: %s", err)
	}
}

// enterFlows tells conntrack of the connections that run. One that it misses
// is cut off, not misled, so that is no reason to leave services unpinned.
func (h *Host) enterFlows(ctx context.Context) {
	n, err := h.flows.Enter(ctx)
	if err != nil {
		h.Log.Errorf("TCP connections that run may be cut off, as services get pinned: %s", err)
	}
	if n > 0 {
		h.Log.Debugf("conntrack was told of %d TCP connections", n)
	}
}
