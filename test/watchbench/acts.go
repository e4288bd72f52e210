package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/policy/kernel"
)

// act is what others do, and by what is heard that it was mended.
type act struct {
	name    string
	prepare func(i int) error // before the pause
	do      func(i int) error
	right   func(i int) []string
}

// guard is the rule that is deleted.
const guard = "rule 4 32754 fwmark 0x2000 unreachable"

func acts() []act {
	always := func(texts ...string) func(int) []string { return func(int) []string { return texts } }
	gateway := func(i int) string { return fmt.Sprintf("198.51.2.%d", 1+i%2) }
	extra := func(i int) *netlink.Addr {
		a, _ := netlink.ParseAddr(fmt.Sprintf("198.51.2.%d/24", 100+i%100))
		return a
	}
	return []act{
		{name: "rule-deleted", do: func(int) error {
			r := netlink.NewRule()
			mask := uint32(0xffffffff)
			r.Priority, r.Mark, r.Mask, r.Family, r.Type, r.Protocol = 32754, 0x2000, &mask, unix.AF_INET, unix.RTN_UNREACHABLE, 77
			return netlink.RuleDel(r)
		}, right: always(guard)},
		{name: "rules-flushed", do: func(int) error { return flushRules() },
			right: always(guard, "rule 4 32753 fwmark 0x2000 lookup 3325231626", "rule 4 32756 from 198.51.2.10 lookup 3325231626")},
		{name: "nft-flush-ruleset", do: func(int) error {
			c, err := nftables.New()
			if err != nil {
				return err
			}
			c.FlushRuleset()
			return c.Flush()
		}, right: always("nft")},
		{name: "address-by-hand", prepare: func(i int) error {
			if i > 0 {
				return netlink.AddrDel(device("wan2"), extra(i-1))
			}
			return nil
		}, do: func(i int) error { return netlink.AddrAdd(device("wan2"), extra(i)) },
			right: func(i int) []string {
				ip := extra(i).IP.To4()
				return []string{fmt.Sprintf("rule 4 32756 from %s lookup %d", ip, uint32(ip[0])<<24|uint32(ip[1])<<16|uint32(ip[2])<<8|uint32(ip[3]))}
			}},
		{name: "default-changed", do: func(i int) error {
			return netlink.RouteReplace(&netlink.Route{LinkIndex: device("wan2").Attrs().Index, Gw: net.ParseIP(gateway(i + 1)), Priority: 2})
		}, right: always("route of table 3325231626")},
		{name: "link-down-up", prepare: func(int) error { return netlink.LinkSetDown(device("wan2")) },
			do: func(int) error {
				if err := netlink.LinkSetUp(device("wan2")); err != nil {
					return err
				}
				return netlink.RouteReplace(&netlink.Route{LinkIndex: device("wan2").Attrs().Index, Gw: net.ParseIP("198.51.2.1"), Priority: 2})
			}, right: always("route of table 3325231626")},
	}
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

func device(name string) netlink.Link {
	l, err := netlink.LinkByName(name)
	if err != nil {
		fmt.Fprintln(os.Stderr, "watchbench:", err)
		os.Exit(1)
	}
	return l
}

// status reads numbers of watch's: of the process, or summed over its threads.
func (b bench) status(key string, threads bool) (sum int) {
	pattern := fmt.Sprintf("/proc/%d/status", b.pid)
	if threads {
		pattern = fmt.Sprintf("/proc/%d/task/*/status", b.pid)
	}
	files, _ := filepath.Glob(pattern) // it is well-formed
	for _, file := range files {
		text, _ := os.ReadFile(file)
		for _, line := range strings.Split(string(text), "\n") {
			var n int
			if name, value, ok := strings.Cut(line, ":"); ok && name == key {
				_, _ = fmt.Sscan(value, &n)
				sum += n
			}
		}
	}
	return sum
}

// cpu is what watch has used.
func (b bench) cpu() time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.pid))
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	var user, system int
	_, _ = fmt.Sscan(fields[11], &user)
	_, _ = fmt.Sscan(fields[12], &system)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// idle says what watch takes while nothing happens.
func (b bench) idle(while time.Duration) error {
	b.quiet(3 * time.Second)
	cpu, wakes := b.cpu(), b.status("voluntary_ctxt_switches", true)
	time.Sleep(while)
	fmt.Printf("idle for %s: %d wake-ups, %s of CPU, %.1f MiB resident (%.1f of them its own)\n", while,
		b.status("voluntary_ctxt_switches", true)-wakes, b.cpu()-cpu, float64(b.status("VmRSS", false))/1024, float64(b.status("RssAnon", false))/1024)
	return nil
}
