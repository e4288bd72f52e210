package e2e

import (
	"fmt"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// uplinkKind makes the second uplink's device on up2, with whatever isp2 needs
// for it.
type uplinkKind struct {
	make func(t *testing.T, l *lab.Lab)
	name string // of the device
	bare bool   // its defaults have no gateway
}

// TestLockOnUplinksOfAllKinds has the kinds that all kernels make; the guest's
// has more.
func TestLockOnUplinksOfAllKinds(t *testing.T) {
	lockOnUplinks(t, map[string]uplinkKind{
		"bridge": {name: "wan", make: func(t *testing.T, l *lab.Lab) {
			l.Script("ip link add wan type bridge; ip link set up2 master wan; ip link set wan up")
			// It comes with the carrier, and is copied to the other uplink's tables.
			lab.Until(t, "the bridge's link-local network", lab.Contains(func() string { return l.Run("ip", "-6", "route", "show", "dev", "wan") }, "fe80::/64"))
		}},
		"tun": {name: "wan", bare: true, make: func(t *testing.T, l *lab.Lab) {
			host, isp := peersOf(t, "198.51.100.1", "0.0.0.0/0", "::/0")
			underlay(l)
			l.Tunnel(l.ISP2, "inner", isp)
			l.Tunnel(l.Namespace, "wan", host)
			inner(l)
		}},
	})
}

// underlay is what a tunnel to isp2 runs on.
func underlay(l *lab.Lab) { l.Run("ip", "addr", "add", "198.51.100.10/24", "dev", "up2") }

// inner gives both ends of a tunnel addresses, and far the way back.
func inner(l *lab.Lab) {
	l.ISP2.Script("ip link set inner up; ip addr add 10.200.0.2/24 dev inner; ip addr add fd00:200::2/64 dev inner nodad")
	l.Far.Script("ip route add 10.200.0.0/24 via 10.2.0.1 src 203.0.113.1; ip route add fd00:200::/64 via fd00:2::1 src 2001:db8:f::1")
	l.Script("ip link set wan up; ip addr add 10.200.0.1/24 dev wan; ip addr add fd00:200::1/64 dev wan nodad")
}

// lockOnUplinks has the second uplink be a bridge and so on. What is pinned to it
// leaves by it; what is pinned to the first one never does, but reaches its LAN
// where that is private.
func lockOnUplinks(t *testing.T, kinds map[string]uplinkKind) {
	t.Helper()
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			kind.make(t, l)
			two4, two6, lan4, lan6 := two4, two6, "198.51.100.7", "2001:db8:2::7"
			via4, via6 := "via 198.51.100.1", "via 2001:db8:2::1"
			if kind.bare {
				two4, two6, lan4, lan6, via4, via6 = "10.200.0.1", "fd00:200::1", "10.200.0.7", "fd00:200::7", "", ""
			} else {
				l.Script(fmt.Sprintf("ip addr add 198.51.100.10/24 dev %[1]s; ip addr add 2001:db8:2::10/64 dev %[1]s nodad", kind.name))
			}
			l.Script(strings.ReplaceAll(fmt.Sprintf(`
ip addr add 192.0.2.10/24 dev up1; ip addr add 2001:db8:1::10/64 dev up1 nodad
ip route add default via 192.0.2.1 dev up1 metric 2; ip route add default via 2001:db8:1::1 dev up1 metric 2
ip route add default %s dev WAN metric 1; ip -6 route add default %s dev WAN metric 1`, via4, via6), "WAN", kind.name))
			config := l.TOML(fmt.Sprintf("[uplink.up1]\nfwmark = 0x1001\n[uplink.%q]\nfwmark = 0x2005\n", kind.name))
			l.MustMH("sync", "--config", config)
			if r := l.MH("plan", "--exit-code", "--config", config); r.Code != 0 {
				t.Errorf("a second run would do something:\n%s", r.Stdout)
			}
			lab.Until(t, "the second uplink carries something", func() bool { return l.Ask(lab.Query{Network: "udp", Far: lab.Far4, Source: two4}) == two4 })
			for _, far := range []struct{ addr, one, two string }{{lab.Far4, one4, two4}, {lab.Far6, one6, two6}} {
				l.WantSeen(far.addr, "", 0x2005, far.two)
				l.WantSeen(far.addr, "", 0x1001, far.one)
				l.WantSeen(far.addr, "", 0, far.two)
			}
			passed(t, l, kind.name)
			l.Script(rulesGone) // main leads to the second uplink
			burst := func(mark uint32, to ...string) {
				t.Helper()
				for _, a := range to {
					l.Send(lab.Sender{To: a, Mark: mark}, 5)
				}
			}
			burst(0x1001, lab.Far4, lab.Far6)
			l.Send(lab.Sender{To: lab.Far4, Mark: 0x1001, Device: kind.name}, 5)
			if n := passed(t, l, kind.name); n != 0 || dropped(t, l, "lock_0x1001") != 15 {
				t.Errorf("%d packets of the first uplink's mark left by the second one", n)
			}
			burst(0x1001, lan4, lan6)
			burst(0x2005, lan4, lan6, lab.Far4, lab.Far6)
			may := 20 // a public LAN of another uplink is no LAN
			if kind.bare {
				may += 10
			}
			if n := passed(t, l, kind.name); n != may {
				t.Errorf("%d of %d packets that may leave by the second uplink did", n, may)
			}
			l.Script(fmt.Sprintf("ip route del default dev %[1]s; ip -6 route del default dev %[1]s", kind.name)) // now main leads to the first one
			sent(t, l.ISP1)
			burst(0x2005, lab.Far4, lab.Far6)
			if n := sent(t, l.ISP1); n != 0 || dropped(t, l, "lock_0x2005") != 10 {
				t.Errorf("%d packets of the second uplink's mark left by the first one", n)
			}
			l.Script(lockGone)
			burst(0x2005, lab.Far4, lab.Far6)
			if n := sent(t, l.ISP1); n != 10 {
				t.Errorf("without the lock %d packets left, want 10: nothing was proved", n)
			}
		})
	}
}
