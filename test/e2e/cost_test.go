package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// BenchmarkPackets is what a UDP send takes while services are pinned, beside
// what it takes without a table and with conntrack alone: for flows that run
// and for new ones, of a process that is pinned and of one that is not. Routers
// drop what arrives at once.
//
// "least" is what pinning takes at the least: a mark kept by conntrack, for which
// the kernel looks for a route again, and a masqueraded source; no cgroup is
// looked up, and there is no second lock. Only its pinned figures mean anything.
//
// The targets: of flows that run, an unpinned one takes at most 1.15 of what
// conntrack alone takes, a pinned one at most 1.3. Others use the machine too:
// the figures are medians over b.N rounds (-benchtime 25x).
func BenchmarkPackets(b *testing.B) {
	l := lab.New(b, binary)
	l.Static()
	for _, isp := range []*lab.Namespace{l.ISP1, l.ISP2} {
		isp.Script("nft add table netdev sink; nft add chain netdev sink in '{ type filter hook ingress device home priority 0; }'; nft add rule netdev sink in udp dport 32768-65535 drop")
	}
	unpinned := l.MakeCgroup("unpinned.service")
	pinnedOne := l.MakeCgroup("pinned.service")
	setups := []struct{ name, script string }{
		{"none", ""},
		{"conntrack", "nft add table inet other; nft add chain inet other out '{ type filter hook output priority 0; }'; nft add rule inet other out ct state invalid counter"},
		{"least", "wg-multihome sync --config " + costConfig(l, pinnedOne, 1) + "; nft delete table inet wg_multihome; nft -f - <<X\n" + leastTable + "X\n"},
		{"1", "wg-multihome sync --config " + costConfig(l, pinnedOne, 1)},
		{"2000", "wg-multihome sync --config " + costConfig(l, pinnedOne, 2000)},
	}
	taken := map[string][]time.Duration{}
	for range b.N {
		for _, setup := range setups {
			l.Script(strings.ReplaceAll(setup.script, "wg-multihome", l.Binary))
			for who, cgroup := range map[string]string{"unpinned": unpinned, "pinned": pinnedOne} {
				for flows, count := range map[string]int{"running": 40000, "new": 5000} {
					key := setup.name + "-" + who + "-" + flows
					taken[key] = append(taken[key], l.Time(lab.Burst{Far: lab.Far4, Cgroup: cgroup, New: flows == "new", Count: count}))
				}
			}
			l.Script(l.Binary + " down; nft flush ruleset")
		}
	}
	b.ReportMetric(0, "ns/op") // a run of all is no figure
	for key := range taken {
		slices.Sort(taken[key])
		median := func(key string) float64 { slices.Sort(taken[key]); return float64(taken[key][len(taken[key])/2]) }
		b.ReportMetric(median(key), "ns/"+key)
		if setup, rest, _ := strings.Cut(key, "-"); setup == "1" || setup == "2000" || setup == "least" {
			b.ReportMetric(median(key)/median("conntrack-"+rest), "x/"+key)
		}
	}
}

// leastTable pins everything that the benchmark sends.
const leastTable = `table inet least {
	chain out {
		type route hook output priority mangle
		ct mark 0x2005 meta mark set ct mark accept
		udp dport 32768-65535 meta mark set 0x2005 ct mark set 0x2005
	}
	chain sources {
		type nat hook postrouting priority srcnat
		oifname up2 fib saddr . oif type != local masquerade
	}
}
`

// costConfig writes a configuration that pins so many cgroups, and returns the
// file's name.
func costConfig(l *lab.Lab, cgroup string, number int) string {
	list := []string{fmt.Sprintf("%q", cgroup)}
	for i := 1; i < number; i++ {
		list = append(list, fmt.Sprintf("%q", l.MakeCgroup(fmt.Sprintf("many.slice/%d.service", i))))
	}
	path := fmt.Sprintf("/run/cost-%d.toml", number)
	l.Write(path, "[uplink.up2]\nfwmark = 0x2005\nmarking = \"packet\"\ncgroups = ["+strings.Join(list, ", ")+"]\n", 0o644)
	return path
}

// timed runs a command n times and returns the time of one.
func timed(b *testing.B, l *lab.Lab, n int, before func(), args ...string) time.Duration {
	b.Helper()
	var sum time.Duration
	for range n {
		if before != nil {
			before()
		}
		begun := time.Now()
		r := l.Try(nil, args...)
		sum += time.Since(begun)
		if r.Code != 0 {
			b.Fatalf("%v: exit status %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
		}
	}
	return sum / time.Duration(n)
}

// BenchmarkManyCgroups pins 2000 cgroups from nothing, as a whole process, and
// finds nothing to do after that.
func BenchmarkManyCgroups(b *testing.B) {
	l := lab.New(b, binary)
	l.Static()
	const n, cgroups = 5, 2000
	few, many := costConfig(l, l.MakeCgroup("a.service"), 1), costConfig(l, l.MakeCgroup("b.service"), cgroups)
	l.MustMH("sync", "--config", few) // tells, once
	for range b.N {
		clean := func() { l.MustMH("down") }
		b.ReportMetric(timed(b, l, n, clean, binary, "sync", "--config", few).Seconds()*1000, "ms/1-cgroup")
		b.ReportMetric(timed(b, l, n, clean, binary, "sync", "--config", many).Seconds()*1000, "ms/2000-cgroups")
		b.ReportMetric(timed(b, l, n, nil, binary, "sync", "--config", many).Seconds()*1000, "ms/2000-again")
	}
	b.ReportMetric(0, "ns/op") // a run of all is no figure
}
