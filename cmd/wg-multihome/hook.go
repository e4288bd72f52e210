package main

import (
	"os"

	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/cmd/internal/tell"
)

func (p *program) hook() *cobra.Command {
	return &cobra.Command{
		Use:   "hook",
		Short: "As a script in /etc/dhcp/multihomed.d of the original shell script: WireGuard and nftables alone",
		Long: `For hosts that keep the original shell script, which makes rules and routes:
sets the marks of the uplink's WireGuard devices, where the mark's unreachable
rule stands, brings the nftables table up to date, and refreshes the devices.
Does nothing when it is called by the hooks of this program.

Reads: IFACE, FWMARK and TABLE_ID from the environment, and what sync reads.
Writes: marks, endpoints and listen ports of WireGuard devices, the table inet
wg_multihome.
Exits with 0 done, 1 a step failed, or the mark has no guards or leads to another
uplink, 2 a value is refused, FWMARK is not the configured mark, or an error in
the configuration.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if tell.CalledByHook() {
				return nil
			}
			call, err := decide.ParseCall(os.LookupEnv)
			if err != nil {
				p.logger().Errorf("%s", err)
				return exitError{report.Usage}
			}
			s, err := p.begin(false)
			if err != nil {
				return err
			}
			defer s.Close()
			return p.finish(s.call(cmd.Context(), call, lockWait))
		},
	}
}
