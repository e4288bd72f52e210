package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/doctor"
	"wg-multihome/cmd/internal/report"
)

func (p *program) doctor() *cobra.Command {
	var asJSON, exitCode bool
	var why string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find what else on this host defeats pinning",
		Long: `Looks for what others have done, or will do, that defeats pinning: by rules, sysctls,
tunnels' files, other software's configuration, hooks and units. Each finding has a
stable code, how bad it is (error: a promise is broken, or will be; warning: it works
by luck; note), the evidence, and what mends it. --why CODE tells the reason. A check
that could not be made is said to be unknown. That there is drift is said, too, in text
alone.

Reads: what status reads; /proc/sys/net and the processes of this network; configuration
files of systemd, NetworkManager, firewalld and dhclient; what networkd, NetworkManager and
dhcpcd say of their interfaces; which of their versions dpkg or apk lists; units of pinned
services; what install has written. It starts no program.
Writes: nothing.
Exits with 0; 1 something could not be read; 2 an error in the configuration, or no
such code; with --exit-code 3 where there is an error or a warning.`,
		Args: noArguments,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "JSON (wg-multihome help json)")
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 3 where there is an error or a warning")
	cmd.Flags().StringVar(&why, "why", "", "tell the reason of the check `CODE`, such as WGM016")
	_ = cmd.RegisterFlagCompletionFunc("why", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var codes []string
		for _, c := range doctor.Checks() {
			codes = append(codes, c.Code)
		}
		return codes, cobra.ShellCompDirectiveNoFileComp
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("why") {
			return tellWhy(cmd, why)
		}
		s, d, err := p.look(cmd.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		caller, err := p.caller(false, "")
		if err != nil {
			return p.finish(report.Failed(err))
		}
		list := doctor.Run(s.host.Examine(cmd.Context(), d, caller))
		if asJSON {
			err = writeJSON(cmd.OutOrStdout(), doctorJSON{jsonVersion, list})
		} else {
			err = writeFindings(cmd.OutOrStdout(), list, len(d.Plan()) > 0)
		}
		if err != nil {
			return p.finish(report.Failed(err))
		}
		if err := p.finish(report.Report{Problems: d.Problems, Errs: d.Errs}); err != nil {
			return err
		}
		if exitCode && doctor.Bad(list) {
			return exitError{report.Drift}
		}
		return nil
	}
	return cmd
}

// writeFindings writes what was found as text, and whether there is drift. That is no
// finding of doctor's: JSON and the exit status leave it to status.
func writeFindings(to io.Writer, list []doctor.Finding, drifts bool) error {
	if err := doctor.Write(to, list, screenOf(to)); err != nil || !drifts {
		return err
	}
	_, err := fmt.Fprintln(to, screenOf(to).Fill("besides, there is drift: `wg-multihome status` lists the steps, `wg-multihome sync` takes them", 0))
	return err
}

func tellWhy(cmd *cobra.Command, code string) error {
	for _, c := range doctor.Checks() {
		if strings.EqualFold(c.Code, code) {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n\n%s\n", c.Code, c.Title, wrapped(c.Why))
			return err
		}
	}
	return fmt.Errorf("--why %q is no code of doctor's, such as WGM016", code)
}

// wrapped breaks a paragraph into lines for a terminal.
func wrapped(text string) string {
	const width = 78
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return strings.Join(append(lines, line), "\n")
}
