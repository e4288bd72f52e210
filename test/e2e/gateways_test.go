package e2e

import (
	"testing"

	"wg-multihome/test/lab"
)

// TestGateways has hosts whose defaults are spelled in many ways, and stand in
// many places. Each time the mark and the source leave by their own uplink.
func TestGateways(t *testing.T) {
	const without = "ip -4 route del default dev up2; ip -6 route del default dev up2; "
	for name, c := range map[string]struct{ prepare, config string }{
		"halves": {without + `for r in 0.0.0.0/1 128.0.0.0/1; do ip route add $r via 198.51.100.1 dev up2 metric 2; done
ip -6 route add 2000::/3 via 2001:db8:2::1 dev up2 metric 2`, pinned},
		"quarters": {without + `for r in 0.0.0.0/2 64.0.0.0/2 128.0.0.0/2 192.0.0.0/2; do ip route add $r via 198.51.100.1 dev up2 metric 2; done
for r in 2000::/4 3000::/4; do ip route add $r via 2001:db8:2::1 dev up2 metric 2; done`, pinned},
		"a table that no rule looks up": {without + `ip route add default via 198.51.100.1 dev up2 table 500 proto dhcp
ip -6 route add default via 2001:db8:2::1 dev up2 table 501 proto ra`, pinned},
		"a nexthop object": {without + `ip nexthop add id 1 via 198.51.100.1 dev up2; ip nexthop add id 2 via 2001:db8:2::1 dev up2
ip route add default nhid 1 metric 2; ip -6 route add default nhid 2 metric 2`, pinned},
		"a nexthop object, and no word beside it": {without + `sysctl -qw net.ipv4.nexthop_compat_mode=0
ip nexthop add id 1 via 198.51.100.1 dev up2; ip nexthop add id 2 via 2001:db8:2::1 dev up2
ip route add default nhid 1 metric 2; ip -6 route add default nhid 2 metric 2`, pinned},
		"a modem's management address": {"ip addr add 192.168.100.2/24 dev up2", pinned},
		"a modem's management address, and a router there": {`ip addr add 192.168.100.2/24 dev up2
ip route add default via 192.168.100.1 dev up2 metric 900`, pinned},
		"a router that is preferred": {`ip -6 route del default dev up2
ip -6 route add default via fe80::dead dev up2 metric 2 pref low; ip -6 route append default via 2001:db8:2::1 dev up2 metric 2 pref high`, pinned},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Script(c.prepare)
			l.Interfaces(c.config)
			l.MustMH("sync")
			noDrift(t, l)
			l.WantSeen(lab.Far4, "", mark, two4)
			l.WantSeen(lab.Far6, "", mark, two6)
			l.WantSeen(lab.Far4, two4, 0, two4)
			l.WantSeen(lab.Far6, two6, 0, two6)
			noSpoof(t, l)
		})
	}
}

// TestSizesOfPackets keeps what main's default says of them.
func TestSizesOfPackets(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Script("ip -4 route change default via 198.51.100.1 dev up2 metric 2 mtu 1400 advmss 1300; ip -6 route change default via 2001:db8:2::1 dev up2 metric 2 mtu 1380")
	l.Interfaces(pinned)
	l.MustMH("sync")
	noDrift(t, l)
	wantEqual(t, "table", l.Default("3325256714"), "default via 198.51.100.1 dev up2 proto 77 src 198.51.100.10 mtu 1400 advmss 1300")
	wantPart(t, "a marked packet's route", l.Run("ip", "-6", "route", "get", lab.Far6, "mark", "0x2005"), "mtu 1380")
	l.WantSeen(lab.Far4, "", mark, two4)
	l.WantSeen(lab.Far6, "", mark, two6)
	l.Script("ip -4 route change default via 198.51.100.1 dev up2 metric 2")
	l.MustMH("sync")
	wantEqual(t, "table", l.Default("3325256714"), "default via 198.51.100.1 dev up2 proto 77 src 198.51.100.10")
	noDrift(t, l)
}

// TestWARP comes back in front after each reconnect, with a default in pieces.
func TestWARP(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.MustMH("sync")
	l.Script(`ip link add warp type veth peer name inner; ip link set warp up; ip addr add 172.16.0.2/32 dev warp
for r in 0.0.0.0/5 8.0.0.0/7 11.0.0.0/8 12.0.0.0/6 16.0.0.0/4 32.0.0.0/3 64.0.0.0/3 96.0.0.0/6 101.0.0.0/8 102.0.0.0/7 104.0.0.0/5 112.0.0.0/4 128.0.0.0/3 160.0.0.0/5 168.0.0.0/6 172.0.0.0/12 192.0.1.0/24 193.0.0.0/8 194.0.0.0/7 196.0.0.0/6 200.0.0.0/5 208.0.0.0/4
do ip route add $r dev warp table 65743; done; ip route add 2000::/3 dev warp table 65743`)
	for range 2 {
		l.Script("for f in -4 -6; do ip $f rule del table 65743 2>/dev/null || true; ip $f rule add not fwmark 0x100cf table 65743; done")
		l.MustMH("sync")
		noDrift(t, l)
		l.WantSeen(lab.Far4, "", mark, two4)
		l.WantSeen(lab.Far6, "", mark, two6)
		l.WantSeen(lab.Far4, one4, 0, one4)
		l.WantSeen(lab.Far6, two6, 0, two6)
	}
	noSpoof(t, l)
}
