package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/install"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/cmd/internal/systemd"
)

// packagedProgram is where a package has the program.
const packagedProgram = "/usr/sbin/wg-multihome"

// installing are the flags that install and uninstall have in common.
type installing struct {
	dryRun, force bool
	root          string // "": this host, and what lives there
}

func (i *installing) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&i.dryRun, "dry-run", false, "print what would be done, and change nothing")
	cmd.Flags().StringVar(&i.root, "root", "", "look for everything and write everything below `DIR`, and touch nothing that lives")
	_ = cmd.MarkFlagDirname("root") // it fails for a flag that is not there alone
}

// open opens the tree of files.
func (i *installing) open() (*install.Tree, error) {
	if i.root == "" {
		return install.OpenTree("/")
	}
	return install.OpenTree(i.root)
}

func (p *program) install() *cobra.Command {
	var i installing
	var packaged bool
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Have DHCP clients, network managers and systemd call this program",
		Long: `Finds which of dhclient, dhcpcd, udhcpc, NetworkManager, ifupdown, ppp,
systemd-networkd, wg-quick and systemd this host has, and writes a hook, a drop-in
or a unit for each; then enables and starts the units. Hooks call the program where
it lies now, with --config and --state-dir where those are given.

Prints a line per file:
  + PATH (why)   written
  = PATH         stands already
  ! PATH         an administrator has changed it: left alone, but with --force
Each file has a line with a hash of the rest. Where that is right, the file is ours
and is replaced by a newer one. A program that others than root may change is
refused, as hooks and units run it as root.

Reads: where the clients lie, and its own files.
Writes: the files that it prints; with systemd it enables and starts the units.
With --root nothing but files below DIR.
Exits with 0 done, or nothing to do; 1 a file could not be written, or a unit not
be started (the others were); 2 bad usage.`,
		Args: noArguments,
	}
	i.flags(cmd)
	cmd.Flags().BoolVar(&i.force, "force", false, "replace files that an administrator has changed, too, and have hooks call a program that others may change")
	cmd.Flags().BoolVar(&packaged, "package", false, "with --root: write all files, found or not, where a package has them")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if packaged && i.root == "" && !i.dryRun {
			p.logger().Errorf("--package takes --root: it is for the tree of a package")
			return exitError{report.Usage}
		}
		caller, err := p.caller(packaged, i.root)
		if err != nil {
			p.logger().Errorf("%s", err)
			return exitError{report.Usage}
		}
		if i.root == "" && !i.force {
			if err := install.CheckProgram(caller.Path); err != nil {
				p.logger().Errorf("%s", err)
				return exitError{report.Usage}
			}
		}
		return p.finish(p.installFiles(cmd, i, install.Options{Caller: caller, Package: packaged, Force: i.force}))
	}
	return cmd
}

// caller is how files are to call the program: where it lies now, below the root
// where that one has it.
func (p *program) caller(packaged bool, root string) (install.Caller, error) {
	c := install.Caller{Path: packagedProgram}
	if !packaged {
		own, err := os.Executable()
		if err != nil {
			return c, fmt.Errorf("find the program: %w", err)
		}
		if strings.HasSuffix(own, " (deleted)") {
			return c, fmt.Errorf("%s: another program was installed there meanwhile; type the command again", own)
		}
		c.Path = own
	}
	if root != "" {
		if err := p.checkRoot(root); err != nil {
			return c, err
		}
		if below, err := filepath.Rel(root, c.Path); err == nil && filepath.IsAbs(root) && root != "/" && !strings.HasPrefix(below, "..") {
			c.Path = "/" + below
		}
	} else if err := p.checkConfig(); err != nil {
		return c, err
	}
	for _, f := range []struct{ flag, value, standard string }{{"--config", p.config, configFile}, {"--state-dir", p.state, stateDir}} {
		path, err := filepath.Abs(f.value)
		if err != nil {
			return c, fmt.Errorf("%s %s: %w", f.flag, f.value, err)
		}
		if path != f.standard {
			c.Flags = append(c.Flags, f.flag, path)
		}
		if path != stateDir && f.flag == "--state-dir" {
			c.State = path
		}
	}
	return c, nil
}

func (p *program) checkRoot(root string) error {
	info, err := os.Stat(root)
	if err == nil && !info.IsDir() {
		err = errors.New("is no folder")
	}
	if err != nil {
		return fmt.Errorf("--root %s: %w", root, err)
	}
	return nil
}

// installFiles writes what is to be written, and tells systemd.
func (p *program) installFiles(cmd *cobra.Command, i installing, o install.Options) report.Report {
	tree, err := i.open()
	if err != nil {
		return report.Failed(err)
	}
	defer tree.Close()
	facts, err := tree.Look()
	rep := report.Report{}
	if err != nil {
		rep.Add(err)
	}
	lines, err := install.PlanInstall(facts, o)
	if err != nil {
		rep.Add(err)
	}
	done := p.doLines(cmd, tree, lines, i.dryRun, &rep)
	if _, found := facts.Found[install.Udhcpc]; found {
		p.logger().Infof("udhcpc has no folder for hooks: start it with -s %s", install.UdhcpcScript)
	}
	if i.dryRun {
		return rep
	}
	changed := len(done.Written) > 0
	if i.root == "" && len(facts.Found[install.Systemd]) > 0 {
		m := install.NewManager(p.logger().Infof)
		did, err := m.Begin(cmd.Context(), done.Units, done.Reload)
		if err != nil {
			rep.Add(err)
		}
		changed = changed || did
		p.sayRestarts(cmd.Context(), m, done)
	}
	if !changed && len(rep.Errs) == 0 {
		p.logger().Infof("nothing to do")
	}
	return rep
}

// doLines prints each line and does what it says. What fails is an error of the
// report, and the others are done.
func (p *program) doLines(cmd *cobra.Command, tree *install.Tree, lines []install.Line, dryRun bool, rep *report.Report) install.Done {
	var done install.Done
	for _, l := range lines {
		if !dryRun {
			if err := tree.Do(l); err != nil {
				rep.Add(err)
				continue
			}
		}
		done.Add(l)
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), l); err != nil {
			rep.Add(err)
		}
	}
	return done
}

// sayRestarts says what does not count yet.
func (p *program) sayRestarts(ctx context.Context, m install.Manager, done install.Done) {
	for _, file := range done.Written {
		if file.Client == install.Networkd && m.Active(ctx, systemd.Networkd) {
			p.logger().Infof("systemd-networkd still deletes foreign rules until you type: systemctl restart systemd-networkd (leased addresses go and come back)")
		}
	}
}
