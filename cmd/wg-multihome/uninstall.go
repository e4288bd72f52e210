package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/host"
	"wg-multihome/cmd/internal/install"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/cmd/internal/state"
)

func (p *program) uninstall() *cobra.Command {
	var i installing
	var purge bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove what install has written, and all that is ours",
		Long: `Stops and disables the units that install has written, removes its files, does
what down does, and looks whether anything of ours is left.

Prints a line per file:
  - PATH   removed
  ! PATH   an administrator has changed it: left alone, but with --force

Reads: its own files, and what down reads.
Writes: what install and down write. --purge removes STATE-DIR and the
configuration file, too; /etc/network/interfaces keeps its options. With --root
nothing but files below DIR.
Exits with 0 done, or nothing to do; 1 a step failed, or something of ours is
left; 2 bad usage, or the program came as a package.`,
		Args: noArguments,
	}
	i.flags(cmd)
	cmd.Flags().BoolVar(&i.force, "force", false, "remove files that an administrator has changed, too")
	cmd.Flags().BoolVar(&purge, "purge", false, "remove the state directory and the configuration file, too")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		live := i.root == "" && !i.dryRun
		if i.root != "" {
			if err := p.checkRoot(i.root); err != nil {
				p.logger().Errorf("%s", err)
				return exitError{report.Usage}
			}
		}
		if live {
			if err := host.Privileged(); err != nil {
				return p.finish(report.Failed(err))
			}
		}
		tree, err := i.open()
		if err != nil {
			return p.finish(report.Failed(err))
		}
		defer tree.Close()
		if packaged, err := tree.Packaged(); err != nil {
			return p.finish(report.Failed(err))
		} else if packaged {
			p.logger().Errorf("uninstall: the package wg-multihome is installed, and dpkg keeps its files: type `apt remove wg-multihome`")
			return exitError{report.Usage}
		}
		rep := p.removeFiles(cmd, tree, i)
		if live {
			p.downAndLook(cmd.Context(), &rep)
		}
		if purge {
			p.purge(cmd, tree, i.dryRun, &rep)
		}
		return p.finish(rep)
	}
	return cmd
}

// removeFiles stops units while their files are there, and removes files.
func (p *program) removeFiles(cmd *cobra.Command, tree *install.Tree, i installing) report.Report {
	rep := report.Report{}
	facts, err := tree.Look()
	if err != nil {
		rep.Add(err)
	}
	lines := install.PlanUninstall(facts, i.force)
	var ends install.Done
	for _, l := range lines {
		ends.Add(l)
	}
	live := i.root == "" && !i.dryRun
	m := install.NewManager(p.logger().Infof)
	if live {
		if err := m.End(cmd.Context(), ends.Units); err != nil {
			rep.Add(err)
		}
	}
	p.doLines(cmd, tree, lines, i.dryRun, &rep)
	if live && ends.Reload {
		if err := m.Reload(cmd.Context()); err != nil {
			rep.Add(err)
		}
	}
	return rep
}

// downAndLook does what down does, and looks whether anything of ours is left.
func (p *program) downAndLook(ctx context.Context, rep *report.Report) {
	s, err := p.beginHook(true) // a configuration that was named and has gone keeps nothing
	if err != nil {
		rep.Add(err)
		return
	}
	defer s.Close()
	for _, err := range s.Down(ctx, lockWait).Errs {
		rep.Add(err)
	}
	s.forgetTry(ctx)
	left, err := s.Left(ctx)
	if err != nil {
		rep.Add(err)
	}
	for _, step := range left {
		rep.Add(fmt.Errorf("still to be done, so type the command again: %s", step))
	}
}

// purge removes state and configuration.
func (p *program) purge(cmd *cobra.Command, tree *install.Tree, dryRun bool, rep *report.Report) {
	tries := ""
	if _, err := os.Stat(filepath.Join(tryDir, state.TryLock)); err == nil && p.state == stateDir {
		tries = tryDir
	}
	for _, what := range []struct {
		path  string
		purge func(string) (bool, error)
	}{
		{tries, func(path string) (bool, error) { return tree.PurgeFolder(path, state.Names(), dryRun) }},
		{p.state, func(path string) (bool, error) { return tree.PurgeFolder(path, state.Names(), dryRun) }},
		{p.config, func(path string) (bool, error) { return tree.PurgeFile(path, dryRun) }},
	} {
		if what.path == "" {
			continue
		}
		path, err := filepath.Abs(what.path)
		if err != nil {
			rep.Add(err)
			continue
		}
		there, err := what.purge(path)
		if err != nil {
			rep.Add(err)
		} else if there {
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), install.Line{Act: install.Remove, Path: path}); err != nil {
				rep.Add(err)
			}
		}
	}
}
