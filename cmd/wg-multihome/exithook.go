package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/host"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/spelling"
	"wg-multihome/policy"
	"wg-multihome/policy/lease"
)

// detectionWait bounds how long a new IPv6 address is waited for: by default the
// kernel takes 1 to 2 s for its duplicate address detection (RFC 4862: a random
// delay of up to 1 s, and a second for an answer).
const detectionWait = 3 * time.Second

func (p *program) exitHook() *cobra.Command {
	var client string
	cmd := &cobra.Command{
		Use:   "exit-hook [ACTION]",
		Short: "Take in a DHCP client's lease event and converge everything",
		Long: `Called by a DHCP client's hook. Records the lease, or drops the record, and then
does what sync does. ACTION is the argument that udhcpc gives to its script. The
topic clients says what each client's events ask for.

Reads: the event from the environment, and what sync reads.
Writes: STATE-DIR/leases/IFACE.json, and what sync writes.
A router that cannot be one is left out, and said; the lease counts without it.
After an event of DHCPv6 it waits until new addresses can be used, 3 s at the
most.
Exits with 0 done, or an event that changes nothing; 1 a step failed; 2 an
environment that is refused, or another client's (one line names the value,
nothing is recorded, what the kernel shows is converged), no client's at all
(nothing is done), or an error in the configuration.`,
		Args: oneArgument("event"),
	}
	cmd.Flags().StringVar(&client, "client", "dhclient", "the DHCP `CLIENT` whose hook calls: "+strings.Join(lease.Clients(), ", "))
	// It fails for a flag that is not there alone.
	_ = cmd.RegisterFlagCompletionFunc("client", cobra.FixedCompletions(lease.Clients(), cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if known := lease.Clients(); !slices.Contains(known, client) {
			return fmt.Errorf("--client %q is none of %s%s", client, strings.Join(known, ", "), spelling.DidYouMean(client, known))
		}
		event, err := lease.Parse(client, strings.Join(args, ""), os.LookupEnv)
		switch {
		case errors.Is(err, lease.ErrUsage):
			p.logger().Errorf("%s", err)
			return exitError{report.Usage}
		case err != nil:
			p.logger().Errorf("%s", err)
			return p.followKernel(cmd.Context())
		case event.Kind == lease.Nothing:
			p.logger().Debugf("nothing to do for %q", event.Reason)
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
	said := s.record(event)
	if event.Family == fwmark.IPv6 {
		said = errors.Join(said, s.host.AwaitAddresses(ctx, event.Interface, detectionWait))
	}
	rep := s.Sync(ctx, lockWait)
	if said != nil {
		rep.Errs = append(rep.Errs, said)
	}
	return p.finish(rep)
}

// record writes down what a client has said of an IPv4 lease.
func (s *session) record(event lease.Event) error {
	switch {
	case event.Kind == lease.Leased:
		r := state.Record{Address: event.Address, Gateway: event.Gateway, When: time.Now().UTC()}
		return s.Bound(event.Interface, r, event.Fresh)
	case event.Kind != lease.Lost:
		return nil
	case event.IfGone:
		stands, err := s.leaseStands(event.Interface)
		if stands || err != nil {
			return err
		}
	}
	return s.Dropped(event.Interface)
}

// leaseStands reports whether the recorded address is on the interface.
func (s *session) leaseStands(iface string) (bool, error) {
	records, _ := s.State.ReadLeases() // said by the run that follows
	addrs, err := s.host.Addresses(iface)
	return slices.ContainsFunc(addrs, func(a policy.Address) bool { return a.Prefix.Addr() == records[iface].Address.Addr() }), err
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
