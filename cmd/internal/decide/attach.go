package decide

import (
	"slices"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/socket"
)

// attach returns the steps that have cgroups mark their sockets, or by another
// number. The guards stand, or the cgroup is held; and a number that sockets of
// another uplink still have waits for them, and so does what would mark the sockets
// of what waits.
func (d Decision) attach() []Step {
	want := d.marked.Clone()
	for _, s := range socket.Diff(d.Sockets.Have, d.marked) {
		if uplink, pinned := d.uplinkOfMark(s.Mark); pinned && (d.takenBy(s.Mark, uplink) || d.socketsUnlock(s)) {
			want.Hold(d.Sockets.Have, s.Cgroup)
		}
	}
	var steps []Step
	for _, s := range socket.Diff(d.Sockets.Have, want) {
		if uplink, pinned := d.uplinkOfMark(s.Mark); pinned {
			steps = append(steps, d.socketStep(s, uplink))
		}
	}
	return steps
}

// uplinkOfMark returns the uplink whose sockets a pinned mark is for, "" where it has
// none.
func (d Decision) uplinkOfMark(m fwmark.Mark) (uplink string, pinned bool) {
	i := slices.IndexFunc(d.Pins, func(p fwmark.Pin) bool { return p.Mark == m })
	if i < 0 {
		return "", false
	}
	if uplink = d.Pins[i].Uplink; uplink == "" {
		uplink = d.aside[m]
	}
	return uplink, true
}

// socketStep is a step at a cgroup. Its sockets go along with marks that move, and
// those whose packets were marked for another uplink may get that one's.
func (d Decision) socketStep(s socket.Step, uplink string) SocketStep {
	step := SocketStep{Step: s, Uplink: uplink}
	for _, m := range d.marked.Moves {
		step.Along = append(step.Along, SocketMove{m, d.uplinkOf(m)})
	}
	for _, change := range s.Changes {
		for _, m := range change.Remark.Connections {
			if uplink, pinned := d.uplinkOfMark(m.To); pinned && m.To != s.Mark {
				step.Along = append(step.Along, SocketMove{m, uplink})
			}
		}
	}
	return step
}

// socketsUnlock reports whether sockets would exchange a mark that the second lock
// holds for one that it does not know, or may not.
func (d Decision) socketsUnlock(s socket.Step) bool {
	if d.Table.Unread {
		return len(s.Have) > 0 || d.moving[s.Mark]
	}
	known := func(m fwmark.Mark) bool {
		return slices.ContainsFunc(d.Table.Have.Claims(), func(c fwmark.Claim) bool { return c.Mark == m })
	}
	return !s.Mark.IsZero() && !known(s.Mark) && slices.ContainsFunc(s.Have, known)
}

// detach returns the steps that have cgroups mark no sockets any more, and those
// that are there lose the mark. Where packets are to be marked instead, they are.
func (d Decision) detach() []Step {
	var steps []Step
	for _, s := range socket.Diff(d.Sockets.Have, d.marked) {
		if !s.Mark.IsZero() {
			continue
		}
		service, pinned := d.Service(s.Cgroup)
		if pinned && service.Packet != nil && !d.marksPacketsOf(service) {
			continue
		}
		step := d.socketStep(s, "")
		if pinned && service.Packet != nil {
			step.Packets = service.Mark
		}
		steps = append(steps, step)
	}
	return steps
}

// marksPacketsOf reports whether the table, as it stands, gives packets of a service
// their mark.
func (d Decision) marksPacketsOf(s socket.Service) bool {
	id := d.Cgroups.ByPath[s.Cgroup].ID
	for _, run := range d.Cgroups.Runs {
		if d.Cgroups.Names[run.Cgroup.ID] == s.Cgroup {
			id = run.Cgroup.ID
		}
	}
	return d.Table.Have.MarksConnections() && d.getsMark(s.Mark, id)
}

// remark returns the steps that give every socket of this host another number, once
// no cgroup gives the old one any more; and the one that forgets cgroups without
// programs.
func (d Decision) remark() []Step {
	var steps []Step
	for _, m := range d.marked.Moves {
		if len(d.Sockets.Have.Carrying(m.From)) == 0 && !d.Sockets.unknown() {
			steps = append(steps, SocketMove{m, d.uplinkOf(m)})
		}
	}
	if gone := d.unmarked(); len(gone) > 0 {
		steps = append(steps, SocketGone{gone})
	}
	return steps
}

// uplinkOf returns the uplink whose sockets get another number.
func (d Decision) uplinkOf(m socket.Move) string {
	i := slices.IndexFunc(d.renumbered, func(r renumbered) bool { return r.From == m.From })
	if i < 0 {
		return ""
	}
	return d.renumbered[i].uplink
}

// unmarked returns the cgroups that are noted and have no programs.
func (d Decision) unmarked() []string {
	if d.Sockets.unknown() || !d.Sockets.Asked {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(d.Sockets.Noted.Cgroups), func(path string) bool {
		_, target := d.marked.Targets[path]
		return target || len(d.Sockets.Have.Cgroups[path].Marks()) > 0
	})
}
