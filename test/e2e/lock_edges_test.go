package e2e

import (
	"fmt"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// TestLockOfTwoMarksOfOneValue has a pinned full tunnel whose F is the plain
// number of its uplink's mark under a mask, as the README has it: two marks,
// and sets, chains and counters are named by the value alone.
func TestLockOfTwoMarksOfOneValue(t *testing.T) {
	l := newLab(t)
	l.Static()
	hostConfig, farConfig := peersOf(t, lab.Far4, "0.0.0.0/0", "::/0")
	l.Tunnel(l.Far, "wg0", farConfig)
	l.Tunnel(l.Namespace, "wg7", strings.Replace(hostConfig, "public_key=", "fwmark=8192\npublic_key=", 1))
	l.Script(`ip addr add 10.200.0.1/24 dev wg7; ip addr add fd00:200::1/64 dev wg7 nodad; ip link set wg7 up
for f in -4 -6; do
	ip $f route add default dev wg7 table 8192
	ip $f rule add not fwmark 8192 table 8192
	ip $f rule add table main suppress_prefixlength 0
done`)
	service := l.MakeCgroup("a.service")
	l.Interfaces("iface up2 inet dhcp\n\tmultihomed-fwmark 0x2000/0xff00\n\tmultihomed-wireguard wg7\n\tmultihomed-cgroup " + service + "\n")
	l.MustMH("sync")
	noDrift(t, l)
	l.WantSeen(lab.Far4, "", 0x2001, two4)
	l.WantSeen(lab.Far6, "", 0x2000, two6)
	wantService(t, l, service, lab.Far4, two4)
	l.Script(rulesGone)
	sent(t, l.ISP1)
	for _, m := range []uint32{0x2000, 0x2001} {
		l.Send(lab.Sender{To: lab.Far4, Mark: m}, 5)
		l.Send(lab.Sender{To: lab.Far6, Mark: m}, 5)
	}
	if n, held := sent(t, l.ISP1), dropped(t, l, "lock_0x2000"); n != 0 || held < 20 {
		t.Errorf("%d of 20 packets left by the other uplink, %d were dropped", n, held)
	}
}

// TestLockOfAMarkAndItsSuccessor: while the configuration has an error, a mark
// that stands is kept beside the one of the same value that it has become.
func TestLockOfAMarkAndItsSuccessor(t *testing.T) {
	for _, uplink := range []string{"up2", "up1"} {
		t.Run(uplink, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			service := l.MakeCgroup("a.service")
			l.Interfaces("iface up2 inet dhcp\n\tmultihomed-fwmark 0x2000\n\tmultihomed-cgroup " + service + "\n")
			l.MustMH("sync")
			wantService(t, l, service, lab.Far4, two4)
			l.Interfaces(fmt.Sprintf("iface %s inet dhcp\n\tmultihomed-fwmark 0x2000/0xff00\n\tmultihomed-cgroup %s\n\tmultihomed-bogus x\n", uplink, service))
			for range 2 {
				r := l.MH("sync")
				wantCode(t, r, 2)
				wantNone(t, "sync", r.Stderr, "rounds")
			}
			wantService(t, l, service, lab.Far4, two4)
			l.WantSeen(lab.Far6, "", 0x2000, two6)
			l.Script(rulesGone)
			sent(t, l.ISP1)
			for _, m := range []uint32{0x2000, 0x2001} {
				l.Send(lab.Sender{To: lab.Far4, Mark: m}, 5)
			}
			if n, held := sent(t, l.ISP1), dropped(t, l, "lock_0x2000"); n != 0 || held < 10 {
				t.Errorf("%d of 10 packets left by the other uplink, %d were dropped", n, held)
			}
		})
	}
}

// TestLockAtTheEdges of what a route can be: prefixes that end with the address
// space, gateways of the other family, types of service, and as many prefixes
// as a device may have, and one more.
func TestLockAtTheEdges(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Script(`
# its prefix is not in main, but its broadcast address in local
ip -4 addr flush dev up1; ip addr add 192.0.2.10/24 dev up1 noprefixroute; ip route add default via 192.0.2.1 dev up1 onlink metric 1
ip addr add 192.168.66.10/24 broadcast + dev up1 noprefixroute
ip addr add 192.168.67.10/24 broadcast 203.0.113.99 dev up1 noprefixroute # as by option 28
ip tuntap add dev tun9 mode tun; ip link set tun9 up
ip route add 192.0.0.0/2 dev tun9; ip route add 240.0.0.0/4 dev tun9; ip -6 route add c000::/2 dev tun9
ip route add 10.66.0.0/16 via inet6 fe80::9 dev up1; ip neigh add fe80::9 lladdr 02:00:00:00:00:09 dev up1
ip route add 10.67.0.0/16 tos 0x10 dev up1; ip route add 10.67.0.0/16 dev tun9
ip route add unreachable 10.68.0.0/16
ip -6 route add 2001:db8:66::/48 from fd00::/8 dev up1
ip tuntap add dev tun8 mode tun; ip link set tun8 up; ip link set tun8 mtu 1400`)
	var batch strings.Builder
	for i := range 4096 {
		fmt.Fprintf(&batch, "route add 10.%d.%d.%d/32 dev tun8\n", 192+i>>12, i>>6&63, i&63*4)
	}
	l.Write("/run/batch", batch.String(), 0o644)
	l.Run("ip", "-batch", "/run/batch")
	l.Interfaces(pinned)
	l.MustMH("sync")
	noDrift(t, l)
	send := func(to, device, bound string, want int) {
		t.Helper()
		before := passed(t, l, device)
		l.Send(lab.Sender{To: to, Mark: mark, Device: bound}, 3)
		if n := passed(t, l, device) - before; n != want {
			t.Errorf("%s by %s: %d datagrams passed, want %d", to, device, n, want)
		}
	}
	passed(t, l, "up1")
	send("223.255.255.1", "tun9", "", 3)
	send("255.255.255.254", "tun9", "", 3)
	send("fbff::1", "tun9", "", 3)
	send("10.66.0.1", "up1", "", 3)
	send("10.67.0.1", "tun9", "", 3)
	send("192.168.66.255", "up1", "up1", 6)
	send("192.0.2.255", "up1", "up1", 0) // for all that is known, another host's
	send("203.0.113.99", "up1", "", 0)
	send("10.192.0.0", "tun8", "", 3)
	send("10.192.63.252", "tun8", "", 3)
	send("10.192.63.253", "tun8", "tun8", 0)
	l.Run("ip", "route", "add", "10.200.0.1", "dev", "tun8")
	l.MustMH("sync")
	noDrift(t, l)
	send("10.200.0.1", "tun8", "", 3)
	send("10.192.63.252", "tun8", "", 3)
	send("10.192.63.253", "tun8", "tun8", 0)
	send("10.2.0.1", "tun9", "tun9", 0)
}

// TestLockWhileTheConfigurationIsBroken: an uplink that is known from there
// alone is held all the same.
func TestLockWhileTheConfigurationIsBroken(t *testing.T) {
	l := newLab(t)
	l.Script("ip addr add 198.51.100.10/24 dev up2; ip route add default via 198.51.100.1 dev up2 metric 2")
	config := l.TOML("[uplink.up2]\nfwmark = 0x2005\n[uplink.up1]\nfwmark = 0x1001\n")
	l.MustMH("sync", "--config", config)
	l.TOML("[uplink.up2")
	wantCode(t, l.MH("sync", "--config", config), 2)
	l.Script(rulesGone + "ip addr add 192.0.2.10/24 dev up1; ip route add default via 192.0.2.1 dev up1 metric 1")
	sent(t, l.ISP1)
	l.Send(lab.Sender{To: lab.Far4, Mark: mark}, 5)
	if n, held := sent(t, l.ISP1), dropped(t, l, "lock_0x2005"); n != 0 || held != 5 {
		t.Errorf("%d of 5 packets left by the other uplink, %d were dropped", n, held)
	}
	// Its LAN is free all the same.
	l.Run("ip", "route", "del", "default", "dev", "up1")
	wantCode(t, l.MH("sync", "--config", config), 2)
	passed(t, l, "up1")
	l.Send(lab.Sender{To: "192.0.2.7", Mark: mark, Device: "up1"}, 5)
	if n := passed(t, l, "up1"); n != 5 {
		t.Errorf("%d of 5 packets to the other uplink's LAN left", n)
	}
	l.TOML("[uplink.up2]\nfwmark = 0x2005\n")
	l.Run("ip", "addr", "flush", "dev", "up1")
	l.MustMH("sync", "--config", config)
	noDriftOf(t, l, config)
	wantNone(t, "lock", l.Run("nft", "list", "table", "inet", "wg_multihome"), "up1")
}

// TestLockRemembersMarks: while the configuration has an error, marks stand
// that only the lock knows any more, as others have deleted their rules.
func TestLockRemembersMarks(t *testing.T) {
	l := newLab(t)
	l.Static()
	service := l.MakeCgroup("a.service")
	config := pins(l, nil, []string{service})
	l.MustMH("sync", "--config", config)
	before := sortLines(l.Rules("-4"))
	l.Script(rulesGone)
	l.TOML("[uplink.up2")
	sent(t, l.ISP1)
	for range 2 {
		wantCode(t, l.MH("sync", "--config", config), 2)
		wantEqual(t, "rules", sortLines(l.Rules("-4")), before)
		wantService(t, l, service, lab.Far4, two4)
		l.WantSeen(lab.Far6, "", mark, two6)
		l.Script(rulesGone)
		l.Send(lab.Sender{To: lab.Far4, Mark: mark}, 5)
		if n := sent(t, l.ISP1); n != 0 {
			t.Errorf("%d of 5 packets left by the other uplink", n)
		}
	}
	l.MustMH("sync", "--config", pins(l, []string{}, nil))
	wantEqual(t, "rules", sortLines(l.Rules("-4")), before)
	l.MustMH("down", "--config", config)
	wantNone(t, "tables", l.Run("nft", "list", "tables"), "wg_multihome")
}
