package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/cmd/internal/state"
	"wg-multihome/cmd/internal/try"
	"wg-multihome/fwmark/config"
	"wg-multihome/policy"
)

// The range of --try.
const (
	minTry = time.Second
	maxTry = 24 * time.Hour
)

// tryDir keeps tries over a reboot, where STATE-DIR is the default one, which goes
// with it.
const tryDir = "/var/lib/wg-multihome"

func (p *program) keeper() try.Keeper {
	k := try.Keeper{Dir: p.dir(), State: p.dir()}
	if p.state == stateDir {
		k.Dir = state.Dir(tryDir)
	}
	return k
}

// try converges, and has it undone unless it is confirmed in time. Whoever undoes it
// waits before anything is changed: this process may be killed at any time.
func (p *program) try(cmd *cobra.Command, limit time.Duration) error {
	s, d, err := p.look(cmd.Context())
	if err != nil {
		return err
	}
	defer s.Close()
	old, err := s.keeper.Read()
	if err != nil {
		return p.finish(report.Failed(err))
	}
	if old != nil && old.Undone && old.Tried == d.Config.Digest() {
		return p.finish(report.Report{Problems: d.Problems})
	}
	t, err := s.keeper.Begin(cmd.Context(), d.Config, s.host.Files, standing(d), limit)
	if err != nil {
		return p.finish(report.Failed(fmt.Errorf("try: %w", err)))
	}
	if err := p.startUndo(cmd.Context(), t.ID, limit); err != nil {
		return p.finish(report.Failed(errors.Join(fmt.Errorf("nothing was changed, as nobody would undo it: %w", err), s.keeper.Cancel(cmd.Context(), t.ID, old))))
	}
	rep := s.Sync(cmd.Context(), lockWait)
	ended := p.finish(rep)
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "this is undone at %s, in %s, unless `wg-multihome confirm` comes first; `wg-multihome revert` undoes it now\n",
		t.Until.Local().Format(time.TimeOnly), time.Until(t.Until).Round(time.Second))
	return errors.Join(ended, err)
}

// standing reports whether something of ours stands.
func standing(d decide.Decision) bool {
	return d.Table.Have.Exists || slices.ContainsFunc(d.Facts.Rules, policy.Rule.Ours)
}

func (p *program) confirm() *cobra.Command {
	return &cobra.Command{
		Use:   "confirm",
		Short: "Keep what sync --try has made",
		Long: `Ends a pending try: what sync --try has made stays. From any session.

Writes: /var/lib/wg-multihome, or a STATE-DIR that is named.
Exits with 0 done, 1 no try is pending, or it is too late.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			confirmed, err := p.keeper().Confirm(cmd.Context())
			if err != nil {
				return p.finish(report.Failed(fmt.Errorf("confirm: %w", err)))
			}
			p.stopTimer(cmd.Context(), confirmed.ID)
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "confirmed: the configuration stays in force")
			return err
		},
	}
}

func (p *program) revert() *cobra.Command {
	var expired string
	cmd := &cobra.Command{
		Use:   "revert",
		Short: "Undo what sync --try has made, now",
		Long: `Ends a pending try: the host is converged to the configuration that was in force
before, or to nothing of ours where there was none. What was tried is refused until
its files change.

Reads and writes: what sync does, and /var/lib/wg-multihome, or a STATE-DIR that is
named.
Exits with 0 done, 1 no try is pending, or a step failed.`,
		Args: noArguments,
	}
	cmd.Flags().StringVar(&expired, "expired", "", "wait until the time of the try `ID` is over, for what sync --try starts")
	_ = cmd.Flags().MarkHidden("expired")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		k := p.keeper()
		if expired != "" {
			pending, err := k.Wait(cmd.Context(), expired)
			if err != nil {
				return p.finish(report.Failed(err))
			}
			if !pending {
				return nil
			}
		}
		undone, err := k.Undo(cmd.Context(), expired)
		if err != nil {
			return p.finish(report.Failed(fmt.Errorf("revert: %w", err)))
		}
		if undone == nil {
			return nil
		}
		if expired == "" { // else this is what it has started
			p.stopTimer(cmd.Context(), undone.ID)
		}
		p.config, p.named = undone.File, undone.Named
		return p.undo(cmd.Context())
	}
	return cmd
}

// undoTries bounds how often an undoing that found another run's lock, or failed, is
// made again.
const undoTries = 10

// undo converges to what was in force before. Nobody may be there to do it again.
func (p *program) undo(ctx context.Context) error {
	var rep report.Report
	for range undoTries {
		s, err := p.beginHook(true)
		if err != nil {
			return err
		}
		s.host.InForce = func(read config.Config) config.Config { return s.inForce(read, true) }
		rep = s.Sync(ctx, lockWait)
		s.Close()
		if rep.Status() == report.Done || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	if rep.Status() == report.Done {
		p.logger().Infof("what was tried is undone: what was in force before is in force again")
	}
	return p.finish(rep)
}

// forgetTry forgets a pending try, and what was in force: nothing of ours is any
// more.
func (s *session) forgetTry(ctx context.Context) {
	if err := errors.Join(s.keeper.Nothing(), s.keeper.Forget(ctx, s.raw())); err != nil {
		s.host.Log.Errorf("%s", err)
	}
}

// raw reads the configuration as its files have it.
func (s *session) raw() config.Config {
	return config.Load(context.Background(), s.host.Files)
}

// pendingTry says in one line that a try is pending; "": none is.
func (p *program) pendingTry() string {
	t, err := p.keeper().Read()
	if err != nil || t == nil {
		return ""
	}
	now, err := try.Clock()
	if err != nil || t.Over(now) {
		return ""
	}
	return fmt.Sprintf("undone at %s, in %s, unless `wg-multihome confirm` comes first", t.Until.Local().Format(time.TimeOnly), t.Left(now).Round(time.Second))
}
