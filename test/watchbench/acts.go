package main

import (
	"errors"
	"fmt"
	"net"
	"os/exec"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/policy/kernel"
)

// What stands of the second uplink's mark.
const (
	guard  = "rule 4 fwmark 0x2000 unreachable"
	lookup = "rule 4 fwmark 0x2000 lookup 3325231626"
	source = "rule 4 from 198.51.2.10 lookup 3325231626"
)

func acts() []act {
	return append(append(routingActs(), tableActs()...), append(cgroupActs(), tunnelActs()...)...)
}

func always(texts ...string) func(int) []string { return func(int) []string { return texts } }

func routingActs() []act {
	gateway := func(i int) string { return fmt.Sprintf("198.51.2.%d", 1+i%2) }
	extra := func(i int) *netlink.Addr {
		a, _ := netlink.ParseAddr(fmt.Sprintf("198.51.2.%d/24", 100+i%100))
		return a
	}
	byDefault := func(gateway string) error {
		link, err := netlink.LinkByName("wan2")
		if err != nil {
			return err
		}
		return netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(gateway), Priority: 2})
	}
	return []act{
		{name: "rule-deleted", do: func(*bench, int) error { return netlink.RuleDel(guardRule()) }, right: always(guard)},
		{name: "rules-flushed", do: func(*bench, int) error { return flushRules() }, right: always(guard, lookup, source)},
		{name: "address-by-hand", before: func(_ *bench, i int) error {
			if i == 0 {
				return nil
			}
			return onWAN2(func(l netlink.Link) error { return netlink.AddrDel(l, extra(i-1)) })
		}, do: func(_ *bench, i int) error {
			return onWAN2(func(l netlink.Link) error { return netlink.AddrAdd(l, extra(i)) })
		}, right: func(i int) []string {
			ip := extra(i).IP.To4()
			return []string{fmt.Sprintf("rule 4 from %s lookup %d", ip, uint32(ip[0])<<24|uint32(ip[1])<<16|uint32(ip[2])<<8|uint32(ip[3]))}
		}},
		{name: "default-changed", do: func(_ *bench, i int) error { return byDefault(gateway(i + 1)) }, right: always("route of table 3325231626")},
		{name: "link-down-up", do: func(*bench, int) error {
			return errors.Join(onWAN2(netlink.LinkSetDown), onWAN2(netlink.LinkSetUp), byDefault("198.51.2.1"))
		}, right: always("route of table 3325231626")},
	}
}

func onWAN2(work func(netlink.Link) error) error {
	link, err := netlink.LinkByName("wan2")
	if err != nil {
		return err
	}
	return work(link)
}

func guardRule() *netlink.Rule {
	r := netlink.NewRule()
	mask := uint32(fwmark.FullMask)
	r.Priority, r.Mark, r.Mask, r.Family, r.Type, r.Protocol = 32754, 0x2000, &mask, unix.AF_INET, unix.RTN_UNREACHABLE, policy.Protocol
	return r
}

// flushRules deletes all IPv4 rules of ours, without a process that would have to be
// started.
func flushRules() error {
	c, err := kernel.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	var f policy.Facts
	if err := c.ReadRules(&f); err != nil {
		return err
	}
	var steps []policy.Step
	for _, r := range f.Rules {
		if r.Ours() && r.Family == fwmark.IPv4 {
			steps = append(steps, policy.Step{Op: policy.Delete, Rule: r})
		}
	}
	return errors.Join(c.Apply(steps)...)
}

// packetService is a configuration of a service whose packets are marked: with it
// comes the chain that marks, after connections that run were entered.
const packetService = "cgroups = [\"bench.slice/packet.service\"]\nmarking = \"packet\"\n"

// What nftables tells of a flush, and of what comes after it.
const (
	flushed     = "- nft"
	locked      = "nft lock"
	marksFilled = "- nft services" // the chain that marks, as it is filled at last
)

// tableActs flush the ruleset. A program that ends right after it, as nft(8) does, has
// the kernel keep everybody from any transaction until it has waited for RCU
// (nft_rcv_nl_event): one that stays, as firewalld does, shows what watch takes.
func tableActs() []act {
	var staying *nftables.Conn
	open := func(*bench) (func() error, error) {
		c, err := nftables.New(nftables.AsLasting())
		staying = c
		return func() error { return c.CloseLasting() }, err
	}
	stays := func(*bench, int) error {
		staying.FlushRuleset()
		return staying.Flush()
	}
	nft := func(*bench, int) error { return exec.Command("nft", "flush", "ruleset").Run() }
	return []act{
		{name: "nft-flush-ruleset", do: nft, since: flushed, right: always(locked)},
		{name: "nft-flush-staying", begin: open, do: stays, since: flushed, right: always(locked)},
		{name: "nft-flush-services", second: packetService, begin: open, do: stays, since: flushed, right: always(locked, marksFilled)},
		{name: "nft-flush-their-lock", second: packetService, begin: open, do: stays, since: flushed, right: always(locked)},
	}
}
