package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/report"
)

func (p *program) plan() *cobra.Command {
	var asJSON, exitCode bool
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Print the steps that sync would take, and change nothing",
		Long: `Prints the steps that sync would take, one to a line and in their order. Where
there is none, it says on stderr that there is nothing to do.

Reads: what sync reads. Marks of WireGuard devices, and nftables, take root to
read.
Writes: nothing.
Exits with 0; 1 something could not be read or cannot be had; 2 an error in the
configuration; with --exit-code 3 where there are steps.`,
		Args: noArguments,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "JSON (wg-multihome help json)")
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 3 where there are steps")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, d, err := p.look(cmd.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		steps := d.Plan()
		if err := p.showPlan(cmd.OutOrStdout(), d, steps, asJSON); err != nil {
			return err
		}
		if len(steps) > 0 && exitCode {
			return exitError{report.Drift}
		}
		return nil
	}
	return cmd
}

// showPlan shows steps, and what is to be known beside them: people read that on
// stderr.
func (p *program) showPlan(w io.Writer, d decide.Decision, steps []string, asJSON bool) error {
	rep := report.Report{Problems: d.Problems, Errs: d.Errs}
	if asJSON {
		if err := writeJSON(w, planOf(d, steps)); err != nil {
			return p.finish(report.Failed(err))
		}
		return exit(rep.Status())
	}
	for _, note := range besideSteps(d) {
		p.logger().Infof("%s", note)
	}
	for _, step := range steps {
		if _, err := fmt.Fprintln(w, step); err != nil {
			return p.finish(report.Failed(err))
		}
	}
	if err := p.finish(rep); err != nil {
		return err
	}
	if len(steps) == 0 && d.Table.Missing == nil {
		p.logger().Infof("nothing to do")
	}
	return nil
}

func planOf(d decide.Decision, steps []string) planJSON {
	o := planJSON{Version: jsonVersion, Steps: steps, Notes: besideSteps(d), Problems: []string{}, Errors: []string{}}
	for _, problem := range d.Problems {
		o.Problems = append(o.Problems, problem.Error())
	}
	for _, err := range d.Errs {
		o.Errors = append(o.Errors, err.Error())
	}
	return o
}

// besideSteps is what is to be known beside the steps.
func besideSteps(d decide.Decision) []string {
	notes := []string{}
	for _, f := range d.Rules.Fronts {
		notes = append(notes, f.String())
	}
	for _, r := range d.Rules.Unasked {
		notes = append(notes, fmt.Sprintf("our rules for uplinks' addresses stand in front of the foreign rule, which those never ask: %s", r))
	}
	notes = append(append(notes, d.KeptForRuns()...), d.RunOn()...)
	if d.Table.Missing != nil {
		notes = append(notes, fmt.Sprintf("steps of nftables are not known: %s", d.Table.Missing))
	}
	return notes
}
