package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/report"
)

func (p *program) plan() *cobra.Command {
	var exitCode bool
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
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 3 where there are steps")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := p.begin(true)
		if err != nil {
			return err
		}
		defer s.Close()
		d, err := s.Look(cmd.Context())
		if err != nil {
			return p.finish(report.Failed(err))
		}
		p.sayBeside(d)
		steps := d.Plan()
		for _, step := range steps {
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), step); err != nil {
				return p.finish(report.Failed(err))
			}
		}
		if err := p.finish(report.Report{Problems: d.Problems, Errs: d.Errs}); err != nil {
			return err
		}
		switch {
		case len(steps) == 0 && d.Table.Missing == nil:
			p.logger().Infof("nothing to do")
		case len(steps) > 0 && exitCode:
			return exitError{report.Drift}
		}
		return nil
	}
	return cmd
}

// sayBeside says what a person is to know beside the steps.
func (p *program) sayBeside(d decide.Decision) {
	for _, f := range d.Rules.Fronts {
		p.logger().Infof("%s", f)
	}
	for _, r := range d.Rules.Unasked {
		p.logger().Infof("our rules for uplinks' addresses stand in front of the foreign rule, which those never ask: %s", r)
	}
	for _, say := range append(d.KeptForRuns(), d.RunOn()...) {
		p.logger().Infof("%s", say)
	}
	if d.Table.Missing != nil {
		p.logger().Infof("steps of nftables are not known: %s", d.Table.Missing)
	}
}
