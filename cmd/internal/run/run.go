package run

import (
	"context"
	"fmt"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/host"
	"wg-multihome/cmd/internal/logging"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/fwmark"
	"wg-multihome/nft/cgroup"
)

// Request is what is to be run.
type Request struct {
	Uplink  string
	User    string   // whose privileges it gets; "": the caller's
	Command []string // and its arguments; not empty
}

// Host is what running a command takes of a session.
type Host interface {
	Look(context.Context) (decide.Decision, error)
	Sync(ctx context.Context, wait time.Duration) report.Report
}

// Runner runs commands.
type Runner struct {
	Host Host
	Log  *logging.Logger
	Wait time.Duration // for another run of ours, at most
}

// Exit statuses of a command that was not started, as of env(1) and nohup(1).
const (
	notExecutable = 126
	notFound      = 127
)

// Run runs a command to its end and returns its exit status, 128 and the
// signal's number where one ended it. An error says that it was not started.
func (r Runner) Run(ctx context.Context, q Request) (status int, err error) {
	if err := host.Privileged(); err != nil {
		return report.Error, err
	}
	o, status, err := newOrder(q)
	if err != nil {
		return status, err
	}
	pin, err := r.pinOf(ctx, q.Uplink)
	if err != nil {
		return report.Error, err
	}
	mount, err := cgroup.Find()
	if err != nil {
		return report.Error, err
	}
	p, err := newProcess(ctx, r.Log, mount, pin, o.Privileges)
	if err != nil {
		return report.Error, err
	}
	defer r.cleanUp(ctx, p)
	defer p.forwardSignals()()
	if err := r.pin(ctx, pin, p); err != nil {
		return report.Error, err
	}
	if err := p.send(o); err != nil {
		return report.Error, fmt.Errorf("start %s: %w", q.Command[0], err)
	}
	return p.wait(), nil
}

// cleanUp removes the cgroup, and converges once more: who pins nothing by now
// is to pay for no conntrack.
func (r Runner) cleanUp(ctx context.Context, p *process) {
	p.cleanUp()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpLimit)
	defer cancel()
	for _, err := range r.Host.Sync(ctx, cleanUpLimit).Errs {
		r.Log.Debugf("after the command: %s", err)
	}
}

// cleanUpLimit bounds what is done after the command has ended.
const cleanUpLimit = 5 * time.Second

// pinOf returns the pin of an uplink that can be run on now.
func (r Runner) pinOf(ctx context.Context, uplink string) (fwmark.Pin, error) {
	v, err := r.Host.Look(ctx)
	if err != nil {
		return fwmark.Pin{}, err
	}
	pin, err := pinOf(v, uplink)
	if err != nil {
		for _, problem := range v.Problems { // one of them may be why
			r.Log.Errorf("%s", problem.Error())
		}
	}
	return pin, err
}

// pin converges everything, with the process in its place, and makes sure of
// what came of it: a step that failed may have been another uplink's.
func (r Runner) pin(ctx context.Context, before fwmark.Pin, p *process) error {
	rep := r.Host.Sync(ctx, r.Wait)
	for _, problem := range rep.Problems {
		r.Log.Errorf("%s", problem.Error())
	}
	for _, err := range rep.Errs {
		r.Log.Errorf("%s", err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("ended before the command was started: %w", err)
	}
	v, err := r.Host.Look(ctx)
	if err != nil {
		return err
	}
	pin, err := pinOf(v, before.Uplink)
	if err != nil {
		return err
	}
	if pin.Mark != before.Mark {
		return fmt.Errorf("uplink %q has mark %s now, and had %s: its configuration has just been changed; type the command again", pin.Uplink, pin.Mark, before.Mark)
	}
	if err := holds(v, pin); err != nil {
		return err
	}
	slice, ok, err := p.mount.Resolve(p.slice)
	if err == nil && !ok {
		err = fmt.Errorf("cgroup %s is gone", p.slice)
	}
	if err != nil {
		return err
	}
	return pinned(v, pin.Mark, slice)
}
