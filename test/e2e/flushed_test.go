package e2e

import (
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// TestFlushesLeaveNothingBehind: what a service sends while the table is missing, and
// for the moment in which conntrack goes on, is nothing that its later sockets follow.
// They have the same far port, and soon the same ports.
func TestFlushesLeaveNothingBehind(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Script("sysctl -qw net.ipv4.ip_local_port_range='40000 41000'") // a port comes again at once
	service, config := packetService(t, l)
	one, two := by(t, l.ISP1, "udp dport 9"), by(t, l.ISP2, "udp dport 9")
	l.MustMH("sync", "--config", config)
	stop := l.FloodFrom(service, lab.Far4, 0)
	for range lab.Rounds(5) {
		before := two()
		lab.Until(t, "it sends", func() bool { return two() > before+100 })
		l.Script("nft flush ruleset")
		l.MustMH("sync", "--config", config)
	}
	_ = stop()
	stop = l.FloodFrom(service, lab.Far4, 0)
	wrong, right := one(), two()
	lab.Until(t, "many sockets were made", func() bool { return two() > right+20*3000 })
	if n := one() - wrong; n != 0 {
		t.Errorf("%d datagrams of new sockets by up1, %d by up2", n, two()-right)
	}
	_ = stop()
}

// TestLockComesFirst: after a flush the second lock stands, by a transaction of its own,
// before connections that run are entered and the chain that marks comes.
func TestLockComesFirst(t *testing.T) {
	l := newLab(t)
	l.Static()
	_, config := packetService(t, l)
	l.MustMH("sync", "--config", config)
	l.Start(nil, "sh", "-c", "exec nft monitor >/run/monitor")
	said := func() string { return l.Read("/run/monitor") }
	lab.Until(t, "nft hears", func() bool {
		l.Script("nft add table inet heard; nft delete table inet heard")
		return strings.Contains(said(), "heard")
	})
	l.Script("nft flush ruleset")
	l.MustMH("sync", "--config", config)
	const generation = "# new generation"
	lab.Until(t, "nft has heard all", func() bool { return strings.Count(said(), "add chain inet wg_multihome services") == 1 })
	lock, rest, _ := strings.Cut(said()[strings.Index(said(), "delete table inet wg_multihome"):], "add chain inet wg_multihome services")
	if !strings.Contains(lock, "add rule inet wg_multihome lock_0x2005 ") || strings.Count(lock, generation) != 2 {
		t.Errorf("before the chain that marks:\n%s\nbehind it:\n%s", lock, rest)
	}
}
