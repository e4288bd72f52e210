package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/host"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/cmd/internal/state"
	"wg-multihome/policy/lease"
)

func (p *program) exitHook() *cobra.Command {
	var client string
	cmd := &cobra.Command{
		Use:   "exit-hook",
		Short: "Take in a DHCP client's lease event and converge everything",
		Long: `Called by a DHCP client's hook. Records the lease, or drops the record, and then
does what sync does.

Reads: the event from the environment (reason, interface, new_ip_address,
new_subnet_mask, new_routers, new_rfc3442_classless_static_routes), and what
sync reads.
Writes: STATE-DIR/leases/IFACE.json, and what sync writes.
A router that cannot be one is left out, and said; the lease counts without it.
Exits with 0 done, or an event that changes nothing; 1 a step failed; 2 an
environment that is refused (one line names the value, nothing is recorded, what
the kernel shows is converged), or an error in the configuration.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&client, "client", "dhclient", "the DHCP `CLIENT` whose hook calls; dhclient is known")
	// It fails for a flag that is not there alone.
	_ = cmd.RegisterFlagCompletionFunc("client", cobra.FixedCompletions([]string{"dhclient"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		event, err := lease.Parse(client, os.LookupEnv)
		switch {
		case errors.Is(err, lease.ErrNoReason), errors.Is(err, lease.ErrUnknownClient):
			p.logger().Errorf("%s", err)
			return exitError{report.Usage}
		case err != nil:
			p.logger().Errorf("%s", err)
			return p.followKernel(cmd.Context())
		case event.Kind == lease.Ignored:
			p.logger().Debugf("nothing to do for reason %q", event.Reason)
			return nil
		case event.LeftOut != nil:
			p.logger().Errorf("%s; left out", event.LeftOut)
		}
		return p.follow(cmd.Context(), event)
	}
	return cmd
}

// follow records the lease before it waits for anything, and converges.
func (p *program) follow(ctx context.Context, event lease.Event) error {
	if err := host.Privileged(); err != nil {
		return p.finish(report.Failed(err))
	}
	s, err := p.beginHook(false)
	if err != nil {
		return err
	}
	defer s.Close()
	var recordErr error
	if event.Kind == lease.Bound {
		record := state.Record{Address: event.Address, Gateway: event.Gateway, When: time.Now().UTC()}
		recordErr = s.Bound(event.Interface, record, event.Fresh)
	} else {
		recordErr = s.Dropped(event.Interface)
	}
	rep := s.Sync(ctx, lockWait)
	if recordErr != nil {
		rep.Errs = append(rep.Errs, recordErr)
	}
	return p.finish(rep)
}

// followKernel converges after an event that was refused: the client may have
// taken an address away, or set one, all the same.
func (p *program) followKernel(ctx context.Context) error {
	if err := host.Privileged(); err != nil {
		return p.finish(report.Report{Errs: []error{err}, Refused: true})
	}
	s, err := p.beginHook(false)
	if err != nil {
		return err
	}
	defer s.Close()
	rep := s.Sync(ctx, lockWait)
	rep.Refused = true
	return p.finish(rep)
}
