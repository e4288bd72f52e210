package main

import (
	"time"

	"github.com/spf13/cobra"

	"wg-multihome/wg"
)

func (p *program) refresh() *cobra.Command {
	var stale bool
	cmd := &cobra.Command{
		Use:   "refresh [DEV...]",
		Short: "Refresh tunnels now",
		Long: `Does for the named WireGuard devices, or for all that are pinned, what is done by
itself when their uplink gets another address: sets the mark again, so that the
kernel forgets old sources; another listen port, where rotate-port says so;
keepalives off and on, so that one leaves at once; and looks up the names of
endpoints. With --stale only peers whose last handshake is older than 135 s are
touched, for a timer. No more than 5 s.

Reads: what sync reads, /etc/wireguard/DEV.conf (or the configured file), DNS.
Writes: the devices' marks (unchanged), listen ports and peers' endpoints.
Exits with 0 done; 1 a device did not answer or is not there; 2 no uplink lists
it, or an error in the configuration. A name that leads nowhere is said.`,
		ValidArgsFunction: p.completeRefresh,
	}
	cmd.Flags().BoolVar(&stale, "stale", false, "only peers whose last handshake is older than 135 s")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		s, err := p.begin(false)
		if err != nil {
			return err
		}
		defer s.Close()
		var olderThan time.Duration
		if stale {
			olderThan = wg.StaleAfter
		}
		return p.finish(s.refresher.Named(cmd.Context(), names, olderThan))
	}
	return cmd
}
