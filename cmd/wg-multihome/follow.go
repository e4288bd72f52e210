package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"wg-multihome/cmd/internal/events"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/cmd/internal/status"
	"wg-multihome/cmd/internal/watch"
)

// lookEvery is how often is looked at what tells of no change: marks of WireGuard
// devices, programs on cgroups, and the time of a pending try.
const lookEvery = time.Second

// followStatus shows the status, and then a line for each change, until ctx ends or nobody
// reads any more.
func (p *program) followStatus(ctx context.Context, w io.Writer, s *session, asJSON bool) error {
	source, err := events.Open(events.Options{})
	if err != nil {
		return p.finish(report.Failed(err))
	}
	defer source.Close()
	if out, is := w.(output); is {
		w = out.file // of which one learns that nobody reads
	}
	f := follower{program: p, session: s, source: source, w: w, asJSON: asJSON}
	switch err := f.run(ctx); {
	case err == nil, errors.Is(err, syscall.EPIPE), ctx.Err() != nil:
		return nil
	default:
		return p.finish(report.Failed(err))
	}
}

type follower struct {
	*program
	session *session
	source  *events.Source
	w       io.Writer
	asJSON  bool

	mount mountPoint
	pace  watch.Pace
	shown *status.Status
}

func (f *follower) run(ctx context.Context) error {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	for {
		f.source.Take()
		polls, err := f.look(ctx)
		if err != nil {
			return err
		}
		wait := time.Until(f.pace.Ready(time.Now()))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		var poll <-chan time.Time
		if polls {
			timer.Reset(lookEvery)
			poll = timer.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-poll:
		case <-f.source.Ready():
			if err := f.source.Err(); err != nil {
				return err
			}
		}
	}
}

// look looks at the host, and shows what has changed. polls says that there is
// something that tells of no change by itself.
func (f *follower) look(ctx context.Context) (polls bool, err error) {
	began := time.Now()
	d, err := f.session.Look(ctx)
	if err != nil {
		return false, err
	}
	interest := watch.Interest(d)
	interest.Places = append(f.mount.places(d, f.shown == nil), events.Place{Path: f.session.keeper.File()})
	if err := f.source.Follow(interest); err != nil {
		f.logger().Debugf("hear of files: %s", err)
	}
	now := status.Of(d, status.Inspect(ctx, f.session.host, d), time.Now())
	now.Try = f.pendingTry()
	f.pace.Looked(time.Now(), time.Since(began))
	polls = len(d.Devices.Found) > 0 || d.Sockets.Asked || now.Try != ""
	if f.shown == nil {
		f.shown = &now
		return polls, f.state(now)
	}
	for _, c := range status.Changes(*f.shown, now) {
		if err := f.change(c, time.Now()); err != nil {
			return false, err
		}
	}
	f.shown = &now
	return polls, nil
}

func (f *follower) state(s status.Status) error {
	if !f.asJSON {
		return s.Write(f.w, screenOf(f.w))
	}
	return writeLine(f.w, statusJSON{jsonVersion, s})
}

func (f *follower) change(c status.Change, now time.Time) error {
	if !f.asJSON {
		_, err := fmt.Fprintf(f.w, "%s %s\n", now.Format(time.TimeOnly), c)
		return err
	}
	return writeLine(f.w, changeJSON{jsonVersion, now, c})
}
