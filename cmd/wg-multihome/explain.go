package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/explain"
	"wg-multihome/cmd/internal/host"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/fwmark/config"
	"wg-multihome/wg"
)

// explainFlags are what `explain` is asked by.
type explainFlags struct {
	mark, from, device, service string
	pid                         int
	port                        uint16
	protocol                    string
	json, exitCode              bool
}

func (p *program) explain() *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain [flags] DESTINATION",
		Short: "Say which way a packet goes, and which rule decides",
		Long: `Says which way a packet to DESTINATION, an address, goes: each rule up to the one
that decides, with why it took the packet or not, the second lock, the source, and
the kernel's own look-up beside it. Nothing is sent. Where the two disagree, one of
them is wrong, and that is said. A packet that is refused comes with the reason, and
what would mend it.

Whose packet: one with a mark (--mark), from an address of this host (--from), the
own UDP of a WireGuard device or else a socket that is bound to a device (--device),
a new socket of a service (--service, as in the configuration) or of a process
(--pid); without a flag one without a mark. Without a DESTINATION --device asks for
each peer's endpoint. Of a service it says, too, whether its cgroup is pinned now,
and by which of the four ways.

A rule that selects by what is not known here (uidrange, dscp, l3mdev, or ports where
--proto and --to-port are not given) is named, and not guessed.

Reads: what sync reads, but DNS; nftables and marks of WireGuard devices take root.
Writes: nothing.
Exits with 0; 1 the kernel disagrees, or something could not be read; 2 bad usage;
with --exit-code 3 a packet is refused, or leaves by another way than its own. A
destination that all that is pinned reaches by main counts as its own way.`,
		Args: oneArgument("destination"),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.mark, "mark", "", "the packet's `MARK`, such as 0x2005")
	flags.StringVar(&f.from, "from", "", "its source, an `ADDRESS` of this host")
	flags.StringVar(&f.device, "device", "", "of the WireGuard device `DEV` itself, or of a socket bound to DEV")
	flags.StringVar(&f.service, "service", "", "of the service `NAME`, or of a cgroup's path")
	flags.IntVar(&f.pid, "pid", 0, "of the process `PID`")
	flags.Uint16Var(&f.port, "to-port", 0, "to the `PORT`")
	flags.StringVar(&f.protocol, "proto", "", "by `PROTOCOL`: udp, tcp or icmp")
	flags.BoolVar(&f.json, "json", false, "JSON (wg-multihome help json)")
	flags.BoolVar(&f.exitCode, "exit-code", false, "exit with 3 where a packet is refused, or goes astray")
	exclusive(cmd, "mark", "from", "device", "service", "pid")
	_ = cmd.RegisterFlagCompletionFunc("mark", p.completeMark)
	_ = cmd.RegisterFlagCompletionFunc("from", p.completeAddress)
	_ = cmd.RegisterFlagCompletionFunc("device", p.completeDevice)
	_ = cmd.RegisterFlagCompletionFunc("service", p.completeService)
	_ = cmd.RegisterFlagCompletionFunc("proto", cobra.FixedCompletions([]string{"udp", "tcp", "icmp"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return p.runExplain(cmd, f, args) }
	return cmd
}

func (p *program) runExplain(cmd *cobra.Command, f explainFlags, args []string) error {
	destinations, err := f.check(cmd, args)
	if err != nil {
		return err
	}
	s, d, err := p.look(cmd.Context())
	if err != nil {
		return err
	}
	defer s.Close()
	subject, err := f.subject(cmd.Context(), s.host, d)
	packets := f.packets(subject, destinations)
	if err == nil && len(packets) == 0 {
		err = fmt.Errorf("--device %s: there is no peer with an endpoint, so name a DESTINATION: wg-multihome explain --device %s 9.9.9.9", f.device, f.device)
	}
	if err != nil {
		p.logger().Errorf("%s", err)
		return exitError{report.Usage}
	}
	list, err := explained(d, p.lastLeases(d), packets)
	if err != nil {
		return p.finish(report.Failed(err))
	}
	if err := showExplained(cmd.OutOrStdout(), list, f.json); err != nil {
		return p.finish(report.Failed(err))
	}
	if err := p.finish(report.Report{Problems: d.Problems, Errs: d.Errs}); err != nil {
		return err
	}
	switch {
	case slices.ContainsFunc(list, func(e explain.Explanation) bool { return !e.Kernel.Agrees }):
		return exitError{report.Error}
	case f.exitCode && slices.ContainsFunc(list, func(e explain.Explanation) bool { return !e.Verdict.Own }):
		return exitError{report.Drift}
	}
	return nil
}

// check reads what can be read without the host.
func (f *explainFlags) check(cmd *cobra.Command, args []string) ([]netip.Addr, error) {
	if !slices.Contains([]string{"", "udp", "tcp", "icmp"}, f.protocol) {
		return nil, fmt.Errorf("--proto %q is none of udp, tcp, icmp", f.protocol)
	}
	if cmd.Flags().Changed("pid") && f.pid <= 0 {
		return nil, fmt.Errorf("--pid %d is no process's number", f.pid)
	}
	if len(args) == 0 {
		if f.device == "" {
			return nil, errors.New("a DESTINATION is missing: an address, such as 9.9.9.9")
		}
		return nil, nil
	}
	dst, err := netip.ParseAddr(args[0])
	switch {
	case err != nil:
		return nil, fmt.Errorf("destination %q is no IP address; `getent ahosts NAME` tells those of a name", args[0])
	case dst.Zone() != "":
		return nil, fmt.Errorf("destination %q has a zone: name the device by --device", args[0])
	case dst.IsUnspecified() || dst.Is4In6():
		return nil, fmt.Errorf("destination %q is nobody's address", args[0])
	}
	return []netip.Addr{dst}, nil
}

// subject finds whose packet it is.
func (f *explainFlags) subject(ctx context.Context, h *host.Host, d decide.Decision) (s explain.Subject, err error) {
	switch {
	case f.mark != "":
		value, err := strconv.ParseUint(f.mark, 0, 32)
		if err != nil {
			return s, fmt.Errorf("--mark %q is no number of 32 bits, such as %s", f.mark, markOf(d, f.mark))
		}
		s = explain.OfMark(d, uint32(value))
	case f.from != "":
		addr, err := netip.ParseAddr(f.from)
		if err != nil {
			return s, fmt.Errorf("--from %q is no IP address", f.from)
		}
		s, err = explain.OfSource(d, addr)
		return f.with(s), err
	case f.device != "":
		var details []wg.Detail
		var errs []error
		if slices.ContainsFunc(d.Devices.Found, func(o wg.Device) bool { return o.Name == f.device }) {
			details, errs = h.Inspect(ctx, []string{f.device})
		}
		if err := errors.Join(errs...); err != nil {
			return s, fmt.Errorf("--device %s: %w", f.device, err)
		}
		s, err = explain.OfDevice(d, details, f.device)
	case f.service != "":
		s, err = ofService(d, f.service)
	case f.pid != 0:
		var c explain.Cgroup
		c, err = host.ProcessCgroup(f.pid)
		s = explain.OfCgroup(d, c)
	default:
		s = explain.OfMark(d, 0)
	}
	return f.with(s), err
}

// markOf is the mark of an uplink, where a person has named that in its place; else an
// example of one.
func markOf(d decide.Decision, word string) string {
	for _, p := range d.Pins {
		if p.Uplink == word && !p.Full {
			return fmt.Sprintf("%#x of uplink %s", p.Mark.Value, word)
		}
	}
	return "0x2005"
}

func ofService(d decide.Decision, word string) (explain.Subject, error) {
	path, err := config.CgroupPath(word)
	if err != nil {
		return explain.Subject{}, fmt.Errorf("--service %q: %w", word, err)
	}
	c, err := host.Cgroup(path)
	if err != nil {
		return explain.Subject{}, fmt.Errorf("--service %q: %w", word, err)
	}
	c.What = "service " + path[strings.LastIndex(path, "/")+1:]
	return explain.OfCgroup(d, c), nil
}

// with adds what flags say of the packet.
func (f *explainFlags) with(s explain.Subject) explain.Subject {
	if f.protocol != "" {
		s.Probe.Protocol = explain.Protocol(f.protocol)
	}
	if f.port != 0 {
		s.Probe.Port = f.port
	}
	return s
}

// packet is one to be explained.
type packet struct {
	subject explain.Subject
	dst     netip.Addr
}

// packets are one to each destination, or else to each endpoint.
func (f *explainFlags) packets(s explain.Subject, destinations []netip.Addr) (list []packet) {
	for _, dst := range destinations {
		list = append(list, packet{s, dst})
	}
	if len(destinations) > 0 {
		return list
	}
	for _, endpoint := range s.Endpoint {
		of := s
		if f.port == 0 {
			of.Probe.Port = endpoint.Port()
		}
		list = append(list, packet{of, endpoint.Addr().Unmap()})
	}
	return list
}

func explained(d decide.Decision, last map[string]string, packets []packet) (list []explain.Explanation, err error) {
	looker, err := host.OpenLooker()
	if err != nil {
		return nil, err
	}
	defer looker.Close()
	x := &explain.Explainer{Decision: d, Look: looker.Look, Last: last}
	for _, p := range packets {
		e, err := x.Explain(p.subject, p.dst)
		if err != nil {
			return list, err
		}
		list = append(list, e)
	}
	return list, nil
}

// lastLeases says when uplinks without an address had their last lease, as far as
// hooks were told.
func (p *program) lastLeases(d decide.Decision) map[string]string {
	last := map[string]string{}
	for _, u := range d.Uplinks {
		told, err := p.dir().ReadTold(u.Name)
		if err != nil {
			continue // status says so
		}
		for _, f := range told.Families {
			if f.Address.IsValid() && !f.Bound.IsZero() {
				last[u.Name] = fmt.Sprintf("the last lease that hooks were told, %s, was bound at %s", f.Address, f.Bound.Local().Format(time.DateTime))
			}
		}
	}
	return last
}

func showExplained(w io.Writer, list []explain.Explanation, asJSON bool) error {
	if asJSON {
		return writeJSON(w, explainJSON{jsonVersion, list})
	}
	at := screenOf(w)
	for i, e := range list {
		if i > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		if err := e.Write(w, at); err != nil {
			return err
		}
	}
	return nil
}
