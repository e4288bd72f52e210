package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/config"
	"wg-multihome/fwmark/socket"
	socketkernel "wg-multihome/fwmark/socket/kernel"
	"wg-multihome/nft"
	"wg-multihome/nft/cgroup"
	"wg-multihome/nft/flows"
)

// readSockets reads which cgroups have programs that mark sockets. Where no
// service is marked so, and none was, the kernel is not asked; a person has it asked
// all the same where nobody has noted that there is nothing to find.
func (h *Host) readSockets(_ context.Context, o *decide.Observation) error {
	o.Sockets = decide.Sockets{}
	noted, err := h.State.ReadSockets()
	o.Sockets.Noted, o.Sockets.Unread = noted, err != nil
	o.Failed(decide.Programs, err)
	if !slices.ContainsFunc(o.Configs(), config.Config.MarksSockets) && len(noted.Cgroups) == 0 {
		if h.Whole && !noted.Whole && err == nil && Privileged() == nil {
			h.findPrograms(o)
		}
		return nil
	}
	mount, client, err := h.programs()
	if err == nil {
		o.Sockets.Have, err = client.Read(socketCgroups(o), h.Whole)
		o.Sockets.Whole = h.Whole && err == nil && o.Sockets.Have.Refused == nil
	}
	if refused := o.Sockets.Have.Refused; err == nil && refused != nil && refused.Reason == socket.Denied && Privileged() != nil {
		// To whoever asks: what stands may be as it is to be. Who looks without
		// privilege sees the rest.
		o.Sockets.Unread = true
		h.Log.Infof("which sockets are marked is not known: %s", refused)
		return nil
	}
	if err != nil {
		o.Sockets.Unread = true
		o.Failed(decide.Programs, fmt.Errorf("which sockets are marked is not known: %w", err))
		return nil
	}
	o.Sockets.Asked = true
	o.Sockets.Elements = elements(mount, o.Table.Have, o.Cgroups.Names)
	return nil
}

// findPrograms looks for programs on all cgroups, where there should be none.
func (h *Host) findPrograms(o *decide.Observation) {
	var have socket.State
	mount, client, err := h.programs()
	if err == nil {
		have, err = client.Read(nil, true)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), have.Refused != nil: // where none can be had there are none
	case err != nil:
		h.Log.Infof("which sockets are marked is not known: %s", err)
	default:
		o.Sockets.Whole = true
	}
	if o.Sockets.Whole && len(have.Cgroups) > 0 {
		o.Sockets.Asked, o.Sockets.Have = true, have
		o.Sockets.Elements = elements(mount, o.Table.Have, o.Cgroups.Names)
	}
}

// NoteSockets notes that every cgroup was asked.
func (h *Host) NoteSockets() error {
	return h.note(func(s state.Sockets) state.Sockets {
		s.Whole = true
		return s
	})
}

// socketCgroups returns the cgroups that may have programs, or may get some.
func socketCgroups(o *decide.Observation) []string {
	list := append([]string{}, o.Sockets.Noted.Cgroups...)
	for _, c := range o.Configs() {
		for _, in := range c.Intents {
			if !in.Mark.IsZero() && c.MarkingOf(in) != fwmark.ByPacket {
				list = append(list, in.Cgroups...)
			}
		}
	}
	for _, run := range o.Cgroups.Runs {
		list = append(list, o.Cgroups.Names[run.Cgroup.ID])
	}
	return list
}

// elements returns the paths of the cgroups that stand in sets of marks that belong
// to others.
func elements(mount cgroup.Mount, have nft.State, names map[uint64]string) map[uint64]string {
	var found map[uint64]string
	for _, id := range have.PublicElements() {
		path, there := names[id], true
		if path == "" {
			path, there = mount.PathOf(id)
		}
		if there {
			if found == nil {
				found = map[uint64]string{}
			}
			found[id] = path
		}
	}
	return found
}

// programs returns where cgroups are, and the client of programs on them, opened at its
// first use.
func (h *Host) programs() (cgroup.Mount, *socketkernel.Client, error) {
	mount, err := cgroup.Find()
	if err != nil || h.sockets != nil {
		return mount, h.sockets, err
	}
	c, err := socketkernel.Open(mount.Point)
	if err != nil {
		return mount, nil, err
	}
	c.Conntrack = &h.flows
	h.sockets = c
	return mount, c, nil
}

// note changes what is noted of marked sockets.
func (h *Host) note(change func(state.Sockets) state.Sockets) error {
	noted, err := h.State.ReadSockets()
	if err != nil {
		return err
	}
	if next := change(noted); !next.Equal(noted) {
		return h.State.WriteSockets(next)
	}
	return nil
}

// applySocket has a cgroup mark its sockets, or no more. That it may do so is noted
// before, and that it does not after: a kill must not lose it.
func (h *Host) applySocket(ctx context.Context, s decide.SocketStep) error {
	if err := h.note(s.Note); err != nil {
		return err
	}
	client, err := h.opened()
	if err != nil {
		return err
	}
	if !s.Packets.IsZero() {
		err = h.leaveToPackets(ctx, client, s)
	} else {
		err = h.changeSockets(ctx, client, s.Step)
	}
	if err != nil {
		return err
	}
	return h.note(s.Done)
}

// changeSockets makes the changes of a step, and says which sockets it could not reach.
func (h *Host) changeSockets(ctx context.Context, client *socketkernel.Client, s socket.Step) error {
	report, err := client.Apply(ctx, s)
	for _, refused := range report.Refused {
		h.Log.Errorf("%s", refused)
	}
	return err
}

// leaveToPackets has a cgroup mark its sockets no more whose packets are marked from now
// on. What a socket has sent while it had the mark is a connection without one to
// conntrack, and the table leaves those alone: they are forgotten, before the last
// program goes. A run that is killed before that is followed by one that does it.
func (h *Host) leaveToPackets(ctx context.Context, client *socketkernel.Client, s decide.SocketStep) error {
	before, last := s.Step, s.Step
	n := len(s.Step.Changes) - 1
	before.Changes, last.Changes = s.Step.Changes[:n], s.Step.Changes[n:]
	if err := h.changeSockets(ctx, client, before); err != nil {
		return err
	}
	mount, err := cgroup.Find()
	if err != nil {
		return err
	}
	ids, err := mount.Tree(s.Cgroup)
	if err != nil {
		return err
	}
	pinned := flows.Pinned{Bits: s.Packets.Mask, Cgroups: map[uint64]bool{}, Asked: h.recentQuestions()}
	for _, id := range ids {
		pinned.Cgroups[id] = true
	}
	if _, err = h.forgetSent(ctx, pinned); err != nil {
		err = fmt.Errorf("what sockets of cgroup /%s send on is not marked by packet: %w", s.Cgroup, err)
		if !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		h.Log.Errorf("%s", err) // it would be so each time
	}
	return h.changeSockets(ctx, client, last)
}

// moveSockets gives every socket of this host another number. One that keeps its
// own would leave by whatever uplink has that number next, so then it has failed. TCP
// connections that their programs have closed keep it, and are ended.
func (h *Host) moveSockets(ctx context.Context, s decide.SocketMove) error {
	if err := h.note(s.Note); err != nil {
		return err
	}
	client, err := h.opened()
	if err != nil {
		return err
	}
	var report socketkernel.Report
	err = client.Give(ctx, s.Remark(), &report)
	if err = errors.Join(append(report.Refused, err)...); err != nil {
		return err
	}
	if err := h.endClosed(ctx, s.From); err != nil {
		return err
	}
	return h.note(func(n state.Sockets) state.Sockets { return n.DropMark(s.From) })
}

// endClosed ends the TCP connections with a mark that no file leads to, and flows of
// MPTCP that have kept it. That the kernel cannot is said, and is no failure: it could
// not by the next run, either.
func (h *Host) endClosed(ctx context.Context, m fwmark.Mark) error {
	what, err := socketkernel.EndClosed(ctx, m)
	if what.Ended > 0 {
		h.Log.Infof("%d TCP connections with mark %s were ended: their programs had closed them, or MPTCP had joined them to one without the mark", what.Ended, m)
	}
	if what.Why != nil {
		h.Log.Errorf("TCP connections with mark %s that their programs have closed, or that MPTCP has joined to others, keep it until they end (%d known): %s", m, what.Left, what.Why)
	}
	return err
}

func (h *Host) opened() (*socketkernel.Client, error) {
	if h.sockets != nil {
		return h.sockets, nil
	}
	_, client, err := h.programs()
	return client, err
}
