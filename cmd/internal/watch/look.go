package watch

import (
	"context"

	"wg-multihome/cmd/internal/converge"
	"wg-multihome/cmd/internal/host"
	"wg-multihome/cmd/internal/state"
)

// HostLooker looks at the host by the one pipeline that all commands use.
type HostLooker struct {
	Host *host.Host
	Run  *converge.Run
}

// Look makes one run.
func (l HostLooker) Look(ctx context.Context, q Request) Result {
	l.Host.Whole, l.Host.Patient = q.Person, q.Fresh != 0
	l.Run.Person, l.Run.Hold = q.Person, q.Hold
	l.Run.Next(q.Known, q.Fresh)
	d, rep := l.Run.Converge(ctx, q.Wait)
	return Result{Busy: rep.Is(state.ErrBusy), Known: len(d.Facts.Links) > 0, Decision: d, Report: rep, Made: l.Run.Made()}
}

var _ Looker = HostLooker{}
