package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// rulesGone is what others do: all of our rules are deleted, and main is what
// it was.
//
// `ip rule flush` deletes what it has listed, and not what comes meanwhile or
// was moved in the list: main's own rule may be there still.
const rulesGone = `
ip rule flush || :; ip rule add pref 32766 lookup main 2>/dev/null || :; ip rule add pref 32767 lookup default 2>/dev/null || :
ip -6 rule flush || :; ip -6 rule add pref 32766 lookup main 2>/dev/null || :
`

// lockGone takes the second lock away, and nothing else.
const lockGone = "nft flush chain inet wg_multihome lock\n"

// dropped returns how many packets with a mark the second lock has dropped.
func dropped(t *testing.T, l *lab.Lab, counter string) int {
	t.Helper()
	return number(t, packets, l.Run("nft", "list", "counter", "inet", "wg_multihome", counter))
}

func number(t *testing.T, pattern *regexp.Regexp, text string) int {
	t.Helper()
	m := pattern.FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no number in %q", text)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// passed returns how many datagrams to port 9 left by a device of the host,
// behind the second lock; the first call begins to count.
func passed(t *testing.T, l *lab.Lab, device string) int {
	t.Helper()
	r := l.Try(nil, "nft", "list", "set", "inet", "passed", "by")
	if r.Code != 0 {
		l.Script(`nft -f - <<X
table inet passed {
	set by { type ifname; flags dynamic; size 64; }
	chain out {
		type filter hook postrouting priority 300
		udp dport 9 update @by { oifname counter }
	}
}
X`)
		return 0
	}
	if !strings.Contains(r.Stdout, fmt.Sprintf("%q counter", device)) {
		return 0
	}
	return number(t, regexp.MustCompile(fmt.Sprintf(`%q counter packets (\d+)`, device)), r.Stdout)
}

// countFamilies has a router count floods from the host by family.
const countFamilies = `nft -f - <<X
table inet families {
	counter ipv4 {}
	counter ipv6 {}
	chain in {
		type filter hook prerouting priority -300
		iifname home udp dport 9 meta nfproto ipv4 counter name ipv4
		iifname home udp dport 9 meta nfproto ipv6 counter name ipv6
	}
}
X`

// TestLockHoldsWhileRulesAreDeleted has others delete our rules again and
// again while marked senders are at full rate and runs of ours bring the rules
// back. The same without the lock shows that it sees leaks.
func TestLockHoldsWhileRulesAreDeleted(t *testing.T) {
	for name, c := range map[string]struct {
		take  string
		leaks bool
	}{"with the lock": {"", false}, "without the lock": {lockGone, true}} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Interfaces(pinned)
			l.MustMH("sync")
			l.ISP1.Script(countFamilies)
			sent(t, l.ISP2)
			l.Script(c.take)
			stops := []func() int{
				l.Flood(lab.Far4, mark), l.Flood(lab.Far6, mark),
				l.Stream(lab.Sender{To: lab.Far4, Mark: mark}), l.Stream(lab.Sender{To: lab.Far6, Mark: mark}),
			}
			enough := l.Start(nil, "sh", "-euc", fmt.Sprintf("while :; do %s\nfor n in 0 1 2 3 4 5 6 7 8 9; do ip rule del prot 77 2>/dev/null || :; ip -6 rule del prot 77 2>/dev/null || :; done\nsleep 0.03; done", rulesGone))
			for range 15 {
				l.MH("sync") // may end with 1: others are at work on the same rules
				l.Script(c.take)
			}
			l.Script(rulesGone)
			enough()
			total := 0
			for _, stop := range stops {
				total += stop()
			}
			right := sent(t, l.ISP2)
			t.Logf("%d left the sockets, %d by their uplink, %d were dropped", total, right, dropped(t, l, "lock_0x2005"))
			for _, family := range []string{"ipv4", "ipv6"} {
				wrong := number(t, packets, l.ISP1.Run("nft", "list", "counter", "inet", "families", family))
				t.Logf("%s: %d by the other uplink", family, wrong)
				if (wrong > 0) != c.leaks {
					t.Errorf("%s: %d marked packets left by the other uplink", family, wrong)
				}
			}
			if right == 0 {
				t.Error("no packet left by its uplink: nothing was proved")
			}
			if !c.leaks && dropped(t, l, "lock_0x2005") == 0 {
				t.Error("the lock dropped nothing: nothing was proved")
			}
			wantCode(t, l.MH("status", "--exit-code"), 3)
			l.MustMH("sync")
			noDrift(t, l)
			l.WantSeen(lab.Far4, "", mark, two4)
			l.WantSeen(lab.Far6, "", mark, two6)
		})
	}
}

// TestLockHoldsSocketsBoundToAnotherDevice: rules do not. In IPv4 the kernel
// takes the destination for on-link when the look-up with a device fails.
func TestLockHoldsSocketsBoundToAnotherDevice(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.ISP1.Run("sysctl", "-qw", "net.ipv4.conf.home.proxy_arp=1", "net.ipv4.neigh.home.proxy_delay=0")
	l.Interfaces(pinned)
	l.MustMH("sync")
	sent(t, l.ISP1)
	sent(t, l.ISP2)
	try := func(far string, hint bool, device string) {
		t.Helper()
		l.Send(lab.Sender{To: far, Mark: mark, Device: device, Hint: hint}, 20)
	}
	all := func(device string) {
		t.Helper()
		for _, far := range []string{lab.Far4, lab.Far6} {
			try(far, false, device)
			try(far, true, device)
		}
	}
	all("up1")
	with := dropped(t, l, "lock_0x2005")
	l.Script(rulesGone)
	all("up1") // now main leads IPv6 there, too
	if n := sent(t, l.ISP1); n != 0 {
		t.Errorf("%d packets left by the device that they were bound to", n)
	}
	if without := dropped(t, l, "lock_0x2005") - with; with != 40 || without != 80 {
		t.Errorf("the lock dropped %d packets beside the rules, and %d without them; want 40 and 80", with, without)
	}
	l.MustMH("sync")
	all("up2")
	if n := sent(t, l.ISP2); n != 80 {
		t.Errorf("%d of 80 packets left by their own uplink", n)
	}
	l.Script(lockGone)
	all("up1")
	// That is what the test sees where there is no lock.
	lab.Until(t, "40 packets of IPv4 leave by the wrong uplink", func() bool { return sent(t, l.ISP1) == 40 })
}

// fullTunnel is what wg-quick makes for a full tunnel of device wg7, and far's
// side of it. Nobody calls a run of ours.
func fullTunnel(t *testing.T, l *lab.Lab) {
	t.Helper()
	hostConfig, farConfig := peersOf(t, lab.Far4, "0.0.0.0/0", "::/0")
	l.Tunnel(l.Far, "wg0", farConfig)
	l.Far.Script("ip addr add 10.200.0.2/24 dev wg0; ip link set wg0 up")
	hostConfig = strings.Replace(hostConfig, "public_key=", "fwmark=51820\npublic_key=", 1)
	l.Tunnel(l.Namespace, "wg7", hostConfig)
	l.Script(`ip addr add 10.200.0.1/24 dev wg7; ip addr add fd00:200::1/64 dev wg7 nodad; ip link set wg7 up
for f in -4 -6; do
	ip $f route add default dev wg7 table 51820
	ip $f rule add not fwmark 51820 table 51820
	ip $f rule add table main suppress_prefixlength 0
done`)
}

// TestLockHoldsInFrontOfANewTunnel has a full tunnel come up with nobody to
// call us. Its rule is in front of ours, and takes marked packets.
func TestLockHoldsInFrontOfANewTunnel(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.MustMH("sync")
	passed(t, l, "wg7")
	fullTunnel(t, l)
	flood := func() {
		t.Helper()
		for _, far := range []string{lab.Far4, lab.Far6} {
			l.Send(lab.Sender{To: far, Mark: mark}, 20)
		}
	}
	flood()
	if n, in := dropped(t, l, "lock_0x2005"), passed(t, l, "wg7"); n != 40 || in != 0 {
		t.Errorf("the lock dropped %d of 40 packets, %d are in the tunnel", n, in)
	}
	l.Script(lockGone)
	flood()
	if in := passed(t, l, "wg7"); in != 40 {
		t.Errorf("without the lock %d packets are in the tunnel: nothing was proved", in)
	}
	l.MustMH("sync")
	noDrift(t, l)
	flood()
	l.WantSeen(lab.Far4, "", mark, two4)
	l.WantSeen(lab.Far6, "", mark, two6)
	if n, in := dropped(t, l, "lock_0x2005"), passed(t, l, "wg7"); n != 40 || in != 40 {
		t.Errorf("after sync: %d dropped, %d in the tunnel", n, in)
	}
	if got := l.Ask(lab.Query{Network: "udp", Far: lab.Far4, Source: one4}); got != one4 {
		t.Errorf("what has the first uplink's source: far saw %q", got)
	}
	noSpoof(t, l)
}

// TestLockHoldsBeforeTheFirstLease: the pinned uplink has no address yet, or no
// interface at all, and others have deleted the rules.
func TestLockHoldsBeforeTheFirstLease(t *testing.T) {
	l := newLab(t)
	l.Script(`ip addr add 192.0.2.10/24 dev up1; ip route add default via 192.0.2.1
ip addr add 2001:db8:1::10/64 dev up1 nodad; ip route add default via 2001:db8:1::1`)
	l.Interfaces(pinned + "iface wwan7 inet dhcp\n\tmultihomed-fwmark 0x700/0xff00\n")
	l.MustMH("sync")
	sent(t, l.ISP1)
	burst := func(marks ...uint32) {
		t.Helper()
		for _, m := range marks {
			for _, far := range []string{lab.Far4, lab.Far6} {
				l.Send(lab.Sender{To: far, Mark: m}, 10)
			}
		}
	}
	burst(mark, 0x700, 0x10701)
	l.Script(rulesGone)
	burst(mark, 0x700, 0x10701)
	if n := sent(t, l.ISP1); n != 0 {
		t.Errorf("%d marked packets left by the other uplink", n)
	}
	// Marks that are none of ours, or beside the mask, are not held.
	burst(0, 0x12005, 0x701700&^0x700, 0x1)
	if n := sent(t, l.ISP1); n != 80 {
		t.Errorf("%d of 80 packets without a mark of ours left", n)
	}
	for counter, want := range map[string]int{"lock_0x2005": 20, "lock_0x700": 40} {
		if n := dropped(t, l, counter); n != want {
			t.Errorf("%s is %d, want %d", counter, n, want)
		}
	}
	l.Script(lockGone)
	burst(mark, 0x700)
	if n := sent(t, l.ISP1); n != 120 {
		t.Errorf("without the lock %d packets left, want 120: nothing was proved", n)
	}
}

// TestTableDeletedWhileRulesStand: the first lock holds while the second one
// is gone, and the next run brings it back.
func TestTableDeletedWhileRulesStand(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.MustMH("sync")
	sent(t, l.ISP1)
	stops := []func() int{l.Flood(lab.Far4, mark), l.Flood(lab.Far6, mark)}
	for _, taken := range []string{
		"nft delete table inet wg_multihome", "nft flush ruleset", lockGone, "nft flush table inet wg_multihome",
		"nft delete rule inet wg_multihome lock_exempt handle $(nft -a list chain inet wg_multihome lock_exempt | sed -n 's/.*accept.*# handle //p' | head -1)",
	} {
		l.Script(taken)
		wantCode(t, l.MH("status", "--exit-code"), 3)
		l.MustMH("sync")
		noDrift(t, l)
	}
	total := 0
	for _, stop := range stops {
		total += stop()
	}
	if wrong := sent(t, l.ISP1); wrong != 0 || total == 0 {
		t.Errorf("%d of %d marked packets left by the other uplink", wrong, total)
	}
}
