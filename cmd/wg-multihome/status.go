package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/metrics"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/cmd/internal/status"
)

func (p *program) status() *cobra.Command {
	var asJSON, asMetrics, following, exitCode bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show uplinks, marks, tunnels, services and drift",
		Long: `Shows uplinks, marks, tunnels and services, what the second lock has dropped and
does not know, destinations that all reach one way, foreign rules that ours stand
in front of, or leave addresses to, what the kernel lacks, and drift: the steps
that sync would take, and what the kernel's own look-up sends elsewhere than it
belongs.

With --follow the status now, and then a line for each change (+ came, - went, = is
otherwise): with --json an object for each. Counters, ages and bytes are no changes.

Of a tunnel: its mark, its peers' endpoints, ages of their last handshakes and
bytes, and what is amiss with it. A peer is shown by the first characters of its
public key; no other key is.

Reads: what sync reads, but DNS. Marks of WireGuard devices, and nftables, take
root to read.
Writes: nothing.
Exits with 0; 1 something could not be read or cannot be had; 2 an error in the
configuration; with --exit-code 3 where there is drift.`,
		Args: noArguments,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "JSON (wg-multihome help json)")
	cmd.Flags().BoolVar(&asMetrics, "metrics", false, "Prometheus's text, for the node exporter's textfile collector")
	cmd.Flags().BoolVar(&following, "follow", false, "then a line for each change, until it is interrupted")
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 3 where there is drift")
	exclusive(cmd, "metrics", "json")
	exclusive(cmd, "metrics", "follow", "exit-code")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := p.begin(true)
		if err != nil {
			return err
		}
		defer s.Close()
		if following {
			return p.followStatus(cmd.Context(), cmd.OutOrStdout(), s, asJSON)
		}
		if asMetrics {
			return p.showMetrics(cmd.Context(), cmd.OutOrStdout(), s)
		}
		d, err := s.Look(cmd.Context())
		if err != nil {
			return p.finish(report.Failed(err))
		}
		st := status.Of(d, status.Inspect(cmd.Context(), s.host, d), time.Now())
		st.Try = p.pendingTry()
		if err := show(cmd.OutOrStdout(), st, asJSON); err != nil {
			return p.finish(report.Failed(err))
		}
		// The errors themselves are part of what was shown.
		if status := st.Report().Status(); status != report.Done {
			return exit(status)
		}
		if exitCode && len(st.Drift)+len(st.Astray) > 0 {
			return exitError{report.Drift}
		}
		return nil
	}
	return cmd
}

// showMetrics shows what watch serves, but for what only watch counts.
func (p *program) showMetrics(ctx context.Context, w io.Writer, s *session) error {
	look := func() (metrics.Snapshot, error) { return s.snapshot(ctx) }
	if err := metrics.Write(w, metrics.Host{Build: build(), Look: look}); err != nil {
		return p.finish(report.Failed(err))
	}
	return nil
}

func show(w io.Writer, s status.Status, asJSON bool) error {
	if !asJSON {
		return s.Write(w, screenOf(w))
	}
	return writeJSON(w, statusJSON{jsonVersion, s})
}
