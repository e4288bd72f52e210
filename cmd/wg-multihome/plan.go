package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/converge"
)

func (p *program) plan() *cobra.Command {
	var exitCode bool
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Print the steps that sync would take, and change nothing",
		Long: `Prints the steps that sync would take, one to a line and in their order.

Reads: what sync reads. Marks of WireGuard devices, and nftables, take root to
read.
Writes: nothing.
Exits with 0; 1 something could not be read or cannot be had; 2 an error in the
configuration; with --exit-code 3 where there are steps.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 3 where there are steps")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v, err := p.look(cmd.Context())
		if err != nil {
			return err
		}
		for _, f := range v.Wanted.Fronts {
			p.logger().Infof("%s", f)
		}
		if v.Table.Lack != nil {
			p.logger().Infof("steps of nftables are not known: %s", v.Table.Lack)
		}
		steps := v.Plan()
		for _, s := range steps {
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), s); err != nil {
				return p.finish(converge.Report{Errs: []error{err}})
			}
		}
		if err := p.finish(converge.Report{Problems: v.Problems, Errs: v.Errs}); err != nil {
			return err
		}
		if exitCode && len(steps) > 0 {
			return exitError{converge.Drift}
		}
		return nil
	}
	return cmd
}
