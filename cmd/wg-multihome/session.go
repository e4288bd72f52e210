package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"wg-multihome/cmd/internal/converge"
	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/host"
	"wg-multihome/cmd/internal/refresh"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/cmd/internal/run"
	"wg-multihome/cmd/internal/state"
	"wg-multihome/cmd/internal/tell"
	"wg-multihome/cmd/internal/try"
	"wg-multihome/fwmark/config"
)

// session is one command's way to the host: the rooms of the program, put
// together for one run. Close ends it.
type session struct {
	*converge.Run

	host      *host.Host
	due       *refresh.Due
	refresher *refresh.Refresher
	teller    *tell.Teller
	keeper    try.Keeper
}

// newSession puts the rooms together around a host. person says that guards of
// marks that are configured no longer go.
func newSession(h *host.Host, person bool, keeper try.Keeper) *session {
	h.Whole = person
	s := &session{host: h, due: &refresh.Due{State: h.State, Log: h.Log}, keeper: keeper}
	h.InForce = func(read config.Config) config.Config { return s.inForce(read, false) }
	h.Before = keeper.Before
	s.Run = &converge.Run{Host: h, State: h.State, Log: h.Log, Person: person, MarkDue: s.due.Mark, InForce: s.noteInForce, Known: s.noteSockets}
	s.refresher = &refresh.Refresher{Host: h, State: h.State, Log: h.Log, Due: s.due, Look: s.Look}
	s.teller = &tell.Teller{State: h.State, Log: h.Log, Refresher: s.refresher}
	return s
}

// inForce returns the configuration that counts, where one is tried or was undone.
func (s *session) inForce(read config.Config, undoing bool) config.Config {
	t, err := s.keeper.Read()
	if err != nil {
		s.host.Log.Errorf("%s", err)
	}
	if t == nil {
		return read
	}
	now, err := try.Clock()
	if err != nil {
		s.host.Log.Errorf("%s", err)
		return read
	}
	return t.InForce(read, now, undoing)
}

// noteInForce notes what a later try goes back to, and of which files something may
// stand. A full STATE-DIR is no reason to fail.
func (s *session) noteInForce(c config.Config, whole bool) error {
	note := s.keeper.Note
	if !whole {
		note = s.keeper.Meet
	}
	if err := note(c); err != nil {
		s.host.Log.Infof("%s", err)
	}
	return nil
}

// noteSockets notes that every cgroup was asked for programs. Where it cannot, the next
// run asks again.
func (s *session) noteSockets(d decide.Decision) {
	if !d.SocketsKnown() {
		return
	}
	if err := s.host.NoteSockets(); err != nil {
		s.host.Log.Debugf("%s", err)
	}
}

// Close frees what the session holds.
func (s *session) Close() { s.host.Close() }

// Sync brings the host to what is wanted, and then tells what is new.
func (s *session) Sync(ctx context.Context, wait time.Duration) report.Report {
	idle := run.Collect()
	last, rep := s.Converge(ctx, wait)
	rep.Errs = append(rep.Errs, idle...)
	if rep.Is(state.ErrBusy) || rep.Is(host.ErrPrivilege) {
		return rep
	}
	for _, say := range slices.Concat(last.KeptForRuns(), last.RunOn(), last.Contradictions(s.host.ReadFiles(last.Observation, last.Present(last.PinnedDevices())))) {
		s.host.Log.Infof("%s", say)
	}
	if s.Person && rep.Status() == report.Done {
		rep.Errs = append(rep.Errs, s.astray(last)...)
	}
	rep.Errs = append(rep.Errs, s.teller.Tell(ctx, last, s.Waited())...)
	return rep
}

// astray asks the kernel whether all goes as is wanted, once nothing is left to
// do. What is wrong then cannot be mended here.
func (s *session) astray(d decide.Decision) []error {
	// The kernel goes through all rules for each answer: of a thousand addresses
	// that took longer than the run. status asks of all.
	const addresses = 32
	questions := d.Questions(addresses)
	answers, err := s.host.Ask(questions)
	if err != nil {
		return []error{err}
	}
	const most = 10
	var errs []error
	astray := d.Astray(questions, answers)
	for _, text := range astray[:min(len(astray), most)] {
		errs = append(errs, fmt.Errorf("cannot be mended: %s", text))
	}
	if more := len(astray) - most; more > 0 {
		errs = append(errs, fmt.Errorf("cannot be mended: %d more, see `wg-multihome status`", more))
	}
	return errs
}

// call does the original shell script's part of that: devices and the nftables
// table, and the refresh of the devices.
func (s *session) call(ctx context.Context, c decide.Call, wait time.Duration) report.Report {
	last, rep := s.Call(ctx, c, wait)
	devices, errs, without := last.Called()
	rep.Errs = append(rep.Errs, errs...)
	for _, m := range without {
		s.host.Log.Infof("mark %s of %s has no unreachable rule for IPv6: an endpoint there is not held", m, c.Uplink)
	}
	if len(devices) > 0 {
		s.due.Mark(devices...) // should it be cut short
		rep.Errs = append(rep.Errs, s.refresher.Begin(ctx, s.Waited()).Run(ctx, devices, false)...)
	}
	return rep
}
