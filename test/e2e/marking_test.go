package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// mark1 is up1's mark where both uplinks have one.
const mark1 = 0x1001

// pins has both uplinks with their marks, and the cgroups that each is to
// carry. It returns the configuration's file.
func pins(l *lab.Lab, up1, up2 []string) string {
	list := func(cgroups []string) string {
		quoted := make([]string, len(cgroups))
		for i, c := range cgroups {
			quoted[i] = strconv.Quote(c)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	return l.TOML(fmt.Sprintf("marking = \"packet\"\n[uplink.up1]\nfwmark = %#x\ncgroups = %s\n[uplink.up2]\nfwmark = %#x\ncgroups = %s\n", mark1, list(up1), mark, list(up2)))
}

// counting counts what matches in a hook of a namespace, and returns how much
// it was so far. hook is like "output priority 0".
func counting(t *testing.T, n *lab.Namespace, hook, match string) func() int {
	t.Helper()
	name := fmt.Sprintf("count%d", strings.Count(n.Run("nft", "list", "tables"), "inet count"))
	n.Script(fmt.Sprintf("nft add table inet %s; nft add counter inet %[1]s seen; nft add chain inet %[1]s c '{ type filter hook %s; }'; nft 'add rule inet %[1]s c %[3]s counter name seen'", name, hook, match))
	return func() int { return counter(t, n, name, "seen") }
}

func counter(t *testing.T, n *lab.Namespace, table, name string) int {
	t.Helper()
	m := packets.FindStringSubmatch(n.Run("nft", "list", "counter", "inet", table, name))
	if m == nil {
		t.Fatalf("no counter %s in %s", name, table)
	}
	count, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// wantSaid talks by running flows, and fails the test unless far saw the
// addresses.
func wantSaid(t *testing.T, when string, talks []*lab.Talk, seen ...string) {
	t.Helper()
	for i, talk := range talks {
		if got := talk.Say(); got != seen[i] {
			t.Errorf("%s: far saw %q of a running flow, want %q", when, got, seen[i])
		}
	}
}

func talks(l *lab.Lab, cgroup string) []*lab.Talk {
	return []*lab.Talk{l.Talk(lab.Query{Far: lab.Far4, Cgroup: cgroup}), l.Talk(lab.Query{Far: lab.Far6, Cgroup: cgroup})}
}

// TestFlowKeepsWhatItBeganWith: neither pinning nor unpinning a cgroup moves
// its flows that run.
func TestFlowKeepsWhatItBeganWith(t *testing.T) {
	l := newLab(t)
	l.Static()
	a, b := l.MakeCgroup("a.service"), l.MakeCgroup("b.service")
	l.MustMH("sync", "--config", pins(l, nil, []string{a}))
	begunUnpinned, begunPinned := talks(l, b), talks(l, a)
	wantSaid(t, "begun", begunUnpinned, one4, one6)
	wantSaid(t, "begun", begunPinned, two4, two6)
	l.MustMH("sync", "--config", pins(l, nil, []string{b}))
	wantSaid(t, "pinned meanwhile", begunUnpinned, one4, one6)
	wantSaid(t, "unpinned meanwhile", begunPinned, two4, two6)
	wantService(t, l, b, lab.Far4, two4)
	wantService(t, l, b, lab.Far6, two6)
	wantService(t, l, a, lab.Far4, one4)
	wantService(t, l, a, lab.Far6, one6)
	l.MustMH("sync", "--config", pins(l, []string{a, b}, nil))
	wantSaid(t, "pinned to the other", begunUnpinned, one4, one6)
	wantSaid(t, "pinned to the other", begunPinned, two4, two6)
	wantService(t, l, a, lab.Far4, one4)
	noSpoof(t, l)
}

// TestFlowsOutliveTheLastPin: with the last service unpinned, what it has begun goes
// on by its uplink, and the services part goes when that has ended. With the table
// gone it goes on by main, also where others keep NAT and conntrack in use.
func TestFlowsOutliveTheLastPin(t *testing.T) {
	for name, others := range map[string]string{
		"alone":           "true",
		"beside NAT":      "nft add table inet nat; nft add chain inet nat post '{ type nat hook postrouting priority 100; }'; nft add rule inet nat post oifname docker0 masquerade",
		"beside firewall": "nft add table inet fw; nft add chain inet fw in '{ type filter hook input priority 0; }'; nft add rule inet fw in ct state established accept",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Script(others)
			service := l.MakeCgroup("a.service")
			l.MustMH("sync", "--config", pins(l, nil, []string{service}))
			flows := talks(l, service)
			wantSaid(t, "begun", flows, two4, two6)
			l.MustMH("sync", "--config", l.TOML("[uplink.up2]\nfwmark = 0x2005\n"))
			wantSaid(t, "unpinned", flows, two4, two6)
			wantService(t, l, service, lab.Far4, one4)
			noDriftOf(t, l, namedFile)
			l.Script("sysctl -qw net.netfilter.nf_conntrack_udp_timeout=1 net.netfilter.nf_conntrack_udp_timeout_stream=1 net.netfilter.nf_conntrack_tcp_timeout_time_wait=1 net.netfilter.nf_conntrack_tcp_timeout_close=1")
			wantSaid(t, "unpinned still", flows, two4, two6)
			lab.Until(t, "the services part goes", func() bool {
				l.MustMH("sync", "--config", namedFile)
				return !strings.Contains(l.Run("nft", "list", "table", "inet", "wg_multihome"), "ct mark")
			})
			wantSaid(t, "ended", flows, one4, one6)
			l.MustMH("sync", "--config", pins(l, nil, []string{service}))
			wantService(t, l, service, lab.Far4, two4)
			l.MustMH("down")
			wantSaid(t, "down", flows, one4, one6)
			wantService(t, l, service, lab.Far6, one6)
			noSpoof(t, l)
		})
	}
}

// TestOneWayFlow has no answers: each of its packets is `ct state new`.
func TestOneWayFlow(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Far.Script("nft add table inet silent; nft add chain inet silent in '{ type filter hook input priority 0; }'; nft add rule inet silent in udp dport 7 drop")
	one := counting(t, l.ISP1, "prerouting priority 0", "iifname home udp dport 7")
	two := counting(t, l.ISP2, "prerouting priority 0", "iifname home udp dport 7")
	a, b := l.MakeCgroup("a.service"), l.MakeCgroup("b.service")
	l.MustMH("sync", "--config", pins(l, nil, []string{a}))
	pinnedFlows, others := talks(l, a), talks(l, b)
	say := func(when string, want1, want2 int) {
		t.Helper()
		before1, before2 := one(), two()
		for _, talk := range append(append([]*lab.Talk{}, pinnedFlows...), others...) {
			for range 3 {
				talk.Send()
			}
		}
		lab.Until(t, "all packets are there", func() bool { return one()-before1+two()-before2 >= want1+want2 })
		if n1, n2 := one()-before1, two()-before2; n1 != want1 || n2 != want2 {
			t.Errorf("%s: %d packets by up1 and %d by up2, want %d and %d", when, n1, n2, want1, want2)
		}
	}
	say("begun", 6, 6)
	l.MustMH("sync", "--config", pins(l, nil, []string{b}))
	say("changed over", 6, 6)
	noSpoof(t, l)
}

// TestInboundToService: a service that is pinned answers by where it was
// asked.
func TestInboundToService(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Script("for d in all up1 up2; do sysctl -qw net.ipv4.conf.$d.rp_filter=1; done")
	service := pinnedService(t, l)
	l.Echo(l.Namespace, service, one4, two4, one6, two6)
	l.MustMH("sync")
	for _, addr := range []string{one4, two4, one6, two6} {
		seen := lab.Far4
		if strings.Contains(addr, ":") {
			seen = lab.Far6
		}
		for _, network := range []string{"udp", "tcp"} {
			if got := l.Ask(lab.Query{From: l.Far, Network: network, Far: addr}); got != seen {
				t.Errorf("%s to %s: the service saw %q, want %q", network, addr, got, seen)
			}
		}
	}
	// And what it asks itself leaves by its uplink.
	wantService(t, l, service, lab.Far4, two4)
	noSpoof(t, l)
}

func TestPingFromService(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Script("sysctl -qw net.ipv4.ping_group_range='0 0'")
	service := pinnedService(t, l)
	l.MustMH("sync")
	for _, far := range []struct{ addr, match string }{
		{lab.Far4, "icmp type echo-request ip saddr " + two4}, {lab.Far6, "icmpv6 type echo-request ip6 saddr " + two6},
	} {
		count := counting(t, l.ISP2, "prerouting priority 0", "iifname home "+far.match)
		if got := l.Ask(lab.Query{Network: "icmp", Far: far.addr, Cgroup: service}); got != "answered" {
			t.Errorf("ping of %s: %q", far.addr, got)
		}
		if count() == 0 {
			t.Errorf("no echo request to %s by the uplink", far.addr)
		}
	}
	noSpoof(t, l)
}

// TestNestedClaims: the deepest wins, whichever mark it is for.
func TestNestedClaims(t *testing.T) {
	l := newLab(t)
	l.Static()
	top, middle := l.MakeCgroup("a.slice"), l.MakeCgroup("a.slice/b.slice")
	bottom := l.MakeCgroup("a.slice/b.slice/c.service")
	beside, below := l.MakeCgroup("a.slice/d.service"), l.MakeCgroup("a.slice/b.slice/c.service/sub")
	other := l.MakeCgroup("e.service")
	deep := l.MakeCgroup("1/2/3/4/5/6/7/8/9")
	for _, c := range []struct {
		up1, up2 []string
		seen     map[string]string
	}{
		{nil, []string{top, deep}, map[string]string{top: two4, middle: two4, bottom: two4, beside: two4, below: two4, other: one4, deep: two4}},
		{[]string{middle}, []string{top, bottom}, map[string]string{top: two4, middle: one4, bottom: two4, beside: two4, below: two4, other: one4}},
		{[]string{top, bottom}, []string{middle}, map[string]string{top: one4, middle: two4, bottom: one4, beside: one4, below: one4}},
	} {
		// up2 is main's own where nothing is pinned to up1, so that neither
		// mark wins by chance.
		l.MustMH("sync", "--config", pins(l, c.up1, c.up2))
		for cgroup, seen := range c.seen {
			wantService(t, l, cgroup, lab.Far4, seen)
		}
	}
	noSpoof(t, l)
}

// TestMarkUnderAMask keeps the bits of other software, in the packet's mark
// and in the connection's.
func TestMarkUnderAMask(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Script("sysctl -qw net.ipv4.conf.all.rp_filter=1") // answers need a mark
	service := l.MakeCgroup("a.service")
	l.Script(`nft -f - <<X
table inet other {
	chain out { type filter hook output priority -160; ip daddr 203.0.113.1 ct state new ct mark set 0x30000; }
}
X`)
	l.MustMH("sync", "--config", l.TOML(fmt.Sprintf("marking = \"packet\"\n[uplink.up2]\nfwmark = \"0x2000/0xff00\"\ncgroups = [%q]\n[uplink.up1]\nfwmark = \"0x1000/0xff00\"\n", service)))
	packet := counting(t, l.Namespace, "postrouting priority -10", "oifname up2 meta mark 0x42000 ct mark 0x32000")
	replies := counting(t, l.Namespace, "prerouting priority -10", "iifname up2 ct mark 0x32000 meta mark 0x2000")
	for _, network := range []string{"udp", "tcp"} {
		if got := l.Ask(lab.Query{Network: network, Far: lab.Far4, Cgroup: service, Mark: 0x40000}); got != two4 {
			t.Errorf("%s: far saw %q", network, got)
		}
	}
	if packet() < 2 || replies() < 2 {
		t.Errorf("%d packets had others' bits and ours, %d answers had ours", packet(), replies())
	}
	if n := counter(t, l.Namespace, "wg_multihome", "other_marks"); n != 0 {
		t.Errorf("%d packets are counted as having a mark of others in our bits", n)
	}
	// Bits of ours that are no mark of ours.
	if got := l.Ask(lab.Query{Network: "udp", Far: lab.Far4, Cgroup: service, Mark: 0x4000}); got != one4 {
		t.Errorf("with a mark of others: far saw %q", got)
	}
	if n := counter(t, l.Namespace, "wg_multihome", "other_marks"); n == 0 {
		t.Error("a foreign mark in our bits is not counted")
	}
	noSpoof(t, l)
}

// TestMarksOfOthers are left alone: those of a socket, and of a connection.
func TestMarksOfOthers(t *testing.T) {
	l := newLab(t)
	l.Static()
	service, other := l.MakeCgroup("a.service"), l.MakeCgroup("b.service")
	l.MustMH("sync", "--config", pins(l, nil, []string{service}))
	foreign := func() int { return counter(t, l.Namespace, "wg_multihome", "other_marks") }
	for _, c := range []struct {
		cgroup string
		mark   uint32
		seen   string
		counts bool
	}{
		{service, mark, two4, false}, {other, mark, two4, false}, {service, mark1, one4, false},
		{service, 0x9999, one4, true}, {service, 0x2004, one4, true}, {other, 0x9999, one4, true}, {other, 0, one4, false},
	} {
		for _, network := range []string{"udp", "tcp"} {
			before := foreign()
			if got := l.Ask(lab.Query{Network: network, Far: lab.Far4, Cgroup: c.cgroup, Mark: c.mark}); got != c.seen {
				t.Errorf("%s from %s with mark %#x: far saw %q, want %q", network, c.cgroup, c.mark, got, c.seen)
			}
			if counted := foreign() > before; counted != c.counts {
				t.Errorf("%s from %s with mark %#x: counted as foreign: %v", network, c.cgroup, c.mark, counted)
			}
		}
	}
	l.Script("nft add table inet other; nft add chain inet other out '{ type filter hook output priority -160; }'; nft add rule inet other out udp dport 7 ct state new ct mark set 0x77")
	seen := counting(t, l.Namespace, "postrouting priority 200", "ct mark 0x77 meta mark 0")
	before := foreign()
	if got := l.Ask(lab.Query{Network: "udp", Far: lab.Far4, Cgroup: service}); got != one4 {
		t.Errorf("with a connection's mark of others: far saw %q", got)
	}
	if foreign() == before || seen() == 0 {
		t.Errorf("%d counted as foreign, %d left with their mark", foreign()-before, seen())
	}
	noSpoof(t, l)
}

// TestReportsOfGroupsCarryNoMark: what IGMP and MLD have in the packet's mark
// is another field of the kernel's (sk_buff's reserved_tailroom).
func TestReportsOfGroupsCarryNoMark(t *testing.T) {
	l := newLab(t)
	l.Static()
	service := pinnedService(t, l)
	l.MustMH("sync")
	var counts []func() int
	for _, to := range []string{"ip daddr 224.0.0.22", "ip6 daddr ff02::16"} {
		counts = append(counts, counting(t, l.Namespace, "output priority 0", "meta mark != 0 "+to))
	}
	join := 0
	lab.Until(t, "groups are reported", func() bool {
		join++
		l.Script(fmt.Sprintf("ip addr add 239.1.1.%d/32 dev up1 autojoin; ip addr add ff05::%[1]d/128 dev up1 autojoin", join))
		return counts[0]() > 0 && counts[1]() > 0
	})
	if n := counter(t, l.Namespace, "wg_multihome", "other_marks"); n != 0 {
		t.Errorf("%d packets are counted as having a mark of others", n)
	}
	wantService(t, l, service, lab.Far4, two4)
}
