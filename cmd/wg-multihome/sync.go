package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"
)

func (p *program) sync() *cobra.Command {
	var hook bool
	var limit time.Duration
	cmd := &cobra.Command{
		Use:   "sync",
		Short: "Converge everything from configuration, leases and kernel",
		Long: `Adds what is missing of rules, routes, nftables and marks, removes what is
obsolete, in an order in which no step opens a leak; then refreshes the tunnels
of what is new, and runs the hooks in /etc/dhcp/multihomed.d for it.

With --try all of it is undone after that time, unless wg-multihome confirm comes
first from any session, also when this terminal, its shell and the network are gone:
what was in force before is then in force until the files change (help try).

Reads: /etc/network/interfaces (by ifquery), the configuration file, lease
records, the kernel's links, addresses, rules, routes, WireGuard devices and
cgroups, the nftables table inet wg_multihome, /etc/wireguard/DEV.conf, DNS.
Writes: rules and routes of protocol 77, the link group of uplinks, the table
inet wg_multihome, marks, endpoints and listen ports of listed WireGuard devices,
programs on listed cgroups and marks of their sockets, STATE-DIR; with marking =
"packet" src_valid_mark of uplinks that services are pinned to. Each step is
named on stderr.
Exits with 0 done, 1 a step failed, others lead packets elsewhere, or another run
took longer than 30 s, 2 an error in the configuration (its valid part is done,
nothing that stands is taken away). With --hook always with 0.`,
		Args: noArguments,
	}
	cmd.Flags().BoolVar(&hook, "hook", false, "for callers that break on failure: wait 5 s for the lock, exit with 0 always")
	cmd.Flags().DurationVar(&limit, "try", 0, "undo it after `TIME`, such as 60s, unless wg-multihome confirm comes first")
	exclusive(cmd, "hook", "try")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("try") {
			if limit < minTry || limit > maxTry {
				return errors.New("--try takes a time from 1s to 24h, such as 60s")
			}
			return p.try(cmd, limit)
		}
		begin, wait := p.begin, lockWait
		if hook {
			begin, wait = p.beginHook, hookWait
		}
		s, err := begin(!hook)
		if err != nil {
			return err
		}
		defer s.Close()
		return p.finish(s.Sync(cmd.Context(), wait))
	}
	return cmd
}
