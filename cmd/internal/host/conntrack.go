package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/nft/cgroup"
	"wg-multihome/nft/flows"
	nftkernel "wg-multihome/nft/kernel"
)

// forget has connections forgotten, also those that are about to be begun: what
// has passed the lock before that was shut is entered at the end of its way. A
// kernel without netlink for conntrack keeps what it remembers of a mark that comes:
// most probably nothing.
func (h *Host) forget(ctx context.Context, s decide.ForgetStep) error {
	if !s.Silent {
		h.settle()
		if err := h.expectAnswersOf(ctx, s.Mark); err != nil {
			return err
		}
	}
	err := h.conntrack.Forget(s.Mark)
	if s.Silent && errors.Is(err, nftkernel.ErrNone) {
		h.Log.Debugf("%s", err)
		return nil
	}
	return err
}

// settle waits for packets that are on their way through the table.
func (h *Host) settle() {
	if err := nftkernel.Settle(); err != nil {
		h.Log.Debugf("%s", err)
	}
}

// forgetUnmarked has conntrack forget what pinned services have sent while the
// marking chain was missing. What it keeps is as if it ran then.
func (h *Host) forgetUnmarked(ctx context.Context, have nft.State, want nft.Ruleset) error {
	p := flows.Pinned{Bits: want.ConnectionBits(), Asked: h.recentQuestions()}
	p.Lost = p.Asked == nil
	p.Cgroups = h.withBelow(slices.Concat(have.Paths(), have.PublicElements()))
	n, err := h.forgetSent(ctx, p)
	if n > 0 {
		h.Log.Debugf("conntrack has forgotten %d UDP flows without a mark", n)
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("what services send on by UDP may follow what conntrack remembers of it: %w", err)
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	h.Log.Errorf("%s", err) // it would be so each time
	return nil
}

// withBelow returns the ids of cgroups, and of those below them: a socket tells the one
// that its process is in.
func (h *Host) withBelow(ids []uint64) map[uint64]bool {
	all := map[uint64]bool{}
	mount, err := cgroup.Find()
	for _, id := range ids {
		all[id] = true
		if err != nil {
			continue
		}
		path, there := mount.PathOf(id)
		if !there {
			continue
		}
		below, err := mount.Tree(path)
		if err != nil {
			h.Log.Debugf("%s", err) // what was found is that much
		}
		for _, id := range below {
			all[id] = true
		}
	}
	return all
}

// questions is what others had begun by UDP before conntrack was turned on, and when
// that was. For a while after that an answer may be the first that conntrack sees.
type questions struct {
	flows map[flows.Ends]bool
	at    time.Time
}

// readQuestions reads it. Where that is not to be had, nothing else of conntrack is.
func (h *Host) readQuestions(ctx context.Context) {
	asked, err := h.flows.Asked(ctx)
	if err != nil {
		h.Log.Debugf("%s", err)
	}
	h.questions = questions{asked, time.Now()}
}

// recentQuestions returns it for that while, and nil later.
func (h *Host) recentQuestions() map[flows.Ends]bool {
	if time.Since(h.questions.at) > nft.LateTime {
		h.questions = questions{}
	}
	return h.questions.flows
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
func (h *Host) expectAnswers(list []flows.UDPEntry) {
	late := make([]nft.Late, len(list))
	for i, e := range list {
		late[i] = nft.Late{From: e.Remote, To: e.Local, Guessed: e.Guessed}
	}
	client, err := h.table()
	if err == nil {
		err = client.Expect(late)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.Log.Errorf("UDP that services send on may leave by main, as late answers to it cannot be dropped (restart the services): %s", err)
	}
}

// expectAnswersOf has answers to UDP of a mark be dropped. A conntrack that is not
// loaded is not asked: that would load it.
func (h *Host) expectAnswersOf(ctx context.Context, m fwmark.Mark) error {
	if runs, err := h.conntrack.Remembers(m); err != nil || !runs {
		return nil // then nothing is forgotten either, or its error tells
	}
	list, err := h.flows.Marked(ctx, m)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("connections of mark %s are not forgotten, as it is not known which answers to them are to come: %w", m, err)
	}
	if err != nil {
		h.Log.Debugf("%s", err) // it would be so each time
	}
	h.expectAnswers(list)
	return nil
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
