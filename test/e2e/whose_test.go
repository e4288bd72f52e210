package e2e

import (
	"fmt"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// bothMarks has a mark for each uplink.
const bothMarks = `[uplink.up1]
fwmark = 0x1001
[uplink.up2]
fwmark = 0x2005
gateway = ["198.51.100.1", "2001:db8:2::1"]
`

// spelling is a way in which main leads to the world, not by a default alone.
type spelling struct {
	routes string
	device bool // through a device of its own, which is new: a run puts it into the group

}

// spellings of the world, through the first uplink or a tunnel.
var spellings = map[string]spelling{
	"quarters": {routes: `ip -batch - <<X
route add 0.0.0.0/2 via 192.0.2.1 dev up1
route add 64.0.0.0/2 via 192.0.2.1 dev up1
route add 128.0.0.0/2 via 192.0.2.1 dev up1
route add 192.0.0.0/2 via 192.0.2.1 dev up1
route add 2000::/3 via 2001:db8:1::1 dev up1
X`},
	// Option 121 of the other uplink's DHCP server, and an RA's on-link prefix.
	"another server's routes": {routes: `ip route add 192.0.0.0/2 via 192.0.2.1 dev up1 proto dhcp src 192.0.2.10
ip -6 route add 2001:db8::/32 via 2001:db8:1::1 dev up1 proto ra; ip -6 route add 2001:db8:f::/64 via 2001:db8:1::1 dev up1 proto ra`},
	"a netmask of /2": {routes: "ip addr add 193.0.2.10/2 dev up1 noprefixroute; ip route add 192.0.0.0/2 dev up1 src 193.0.2.10"},
	"a host route":    {routes: "ip route add 203.0.113.1 via 192.0.2.1 dev up1; ip route add 2001:db8:f::1 via 2001:db8:1::1 dev up1"},
	"halves through a tunnel": {device: true, routes: `ip tuntap add vpn0 mode tun; ip link set vpn0 up; ip addr add 10.8.0.6/24 dev vpn0; ip addr add fd00:8::6/64 dev vpn0 nodad
ip -batch - <<X
route add 0.0.0.0/1 via 10.8.0.1 dev vpn0
route add 128.0.0.0/1 via 10.8.0.1 dev vpn0
route add ::/1 dev vpn0
route add 8000::/1 dev vpn0
route add 2001:db8:f::/48 dev vpn0
X`},
	"a feed": {routes: feed("via 192.0.2.1 dev up1", "via 2001:db8:1::1 dev up1")},
	"a feed through a tunnel": {device: true, routes: `ip tuntap add vpn0 mode tun; ip link set vpn0 up; ip addr add 10.8.0.6/24 dev vpn0
` + feed("via 10.8.0.1 dev vpn0", "dev vpn0")},
}

// feed has some thousand routes, far's among them.
func feed(via4, via6 string) string {
	var b strings.Builder
	b.WriteString("ip -batch - <<X\n")
	for i := range 1200 {
		fmt.Fprintf(&b, "route add 31.%d.%d.0/24 %s\nroute add 2a00:%x::/32 %s\n", i>>8, i&255, via4, i+1, via6)
	}
	fmt.Fprintf(&b, "route add 203.0.113.0/24 %s\nroute add 2001:db8:f::/48 %s\nX", via4, via6)
	return b.String()
}

// TestNoRouteToTheWorldIsALAN: what is pinned to the second uplink, or sent from its
// address, leaves by it, however main leads elsewhere; by the rules alone, as soon
// as the route is there. LANs are reached as main has them.
func TestNoRouteToTheWorldIsALAN(t *testing.T) {
	for name, s := range spellings {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Script("ip link add lan0 type bridge; ip link set lan0 up; ip addr add 10.77.0.1/24 dev lan0; ip addr add fd00:77::1/64 dev lan0 nodad")
			config := l.TOML(bothMarks)
			l.MustMH("sync", "--config", config)
			l.Script(s.routes)
			if s.device {
				l.MustMH("sync", "--config", config)
			}
			l.Script(lockGone) // the rules alone
			pinnedToBoth(t, l)
			l.MustMH("sync", "--config", config)
			pinnedToBoth(t, l)
			for _, to := range []string{"10.77.0.9", "fd00:77::9"} {
				for _, m := range []string{"0x1001", "0x2005"} {
					if got := l.Run("ip", "route", "get", to, "mark", m); !strings.Contains(got, " dev lan0 ") {
						t.Errorf("the LAN's %s with mark %s: %s", to, m, got)
					}
				}
			}
			noDriftOf(t, l, config)
			l.MustMH("down", "--config", config)
			if got := l.Run("ip", "-o", "link", "show", "group", "77"); got != "" {
				t.Errorf("after down there is in the group:\n%s", got)
			}
			// What would have been, had there been no group.
			l.Script("ip rule add pref 10 fwmark 0x2005 lookup main suppress_prefixlength 0")
			if got := l.Run("ip", "route", "get", lab.Far4, "mark", "0x2005"); strings.Contains(got, "dev up2") {
				t.Errorf("main leads to the second uplink, nothing was proved: %s", got)
			}
		})
	}
}

// pinnedToBoth checks that marks and sources of the second uplink reach far by it,
// and those of the first one by no other: where far is on-link there by a netmask
// that is too wide, nobody answers.
func pinnedToBoth(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, far := range []struct{ addr, one, two string }{{lab.Far4, one4, two4}, {lab.Far6, one6, two6}} {
		l.WantSeen(far.addr, "", 0x2005, far.two)
		l.WantSeen(far.addr, far.two, 0, far.two)
		for _, q := range []lab.Query{{Network: "udp", Far: far.addr, Mark: 0x1001}, {Network: "udp", Far: far.addr, Source: far.one}} {
			if got := l.Ask(q); got != far.one && !strings.HasPrefix(got, "error") {
				t.Errorf("far saw %q of %+v", got, q)
			}
		}
	}
}

// TestPathMTUsLeadNothingAstray: "packet too big" makes a host route of main's IPv6
// default, which suppress_prefixlength 0 lets pass (F51).
func TestPathMTUsLeadNothingAstray(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.ISP1.Script("ip link set far mtu 1300")
	lab.Until(t, "main has an exception", func() bool {
		l.Send(lab.Sender{To: lab.Far6, Size: 1400}, 1)
		return strings.Contains(l.Run("ip", "route", "get", lab.Far6), "mtu 1300")
	})
	config := l.TOML(bothMarks)
	l.MustMH("sync", "--config", config)
	for _, state := range []string{"", lockGone, "nft delete table inet wg_multihome"} {
		l.Script(state)
		if got := l.Run("ip", "route", "get", lab.Far6); !strings.Contains(got, "mtu 1300") {
			t.Fatalf("main has no exception any more: %s", got)
		}
		l.WantSeen(lab.Far6, "", 0x2005, two6)
		l.WantSeen(lab.Far6, two6, 0, two6)
	}
	l.Script("ip -6 rule add pref 10 fwmark 0x2005 lookup main suppress_prefixlength 0")
	if got := l.Run("ip", "route", "get", lab.Far6, "mark", "0x2005"); !strings.Contains(got, "dev up1") {
		t.Errorf("without a group it would not leave by the first uplink, nothing was proved: %s", got)
	}
}

// TestUplinksInOneSubnet has two modems with one subnet, the same gateway address,
// and fe80::1 twice: each uplink's marks and sources reach neighbours, the gateway
// and the world by that uplink.
func TestUplinksInOneSubnet(t *testing.T) {
	l := newLab(t)
	for i, isp := range []*lab.Namespace{l.ISP1, l.ISP2} {
		isp.Script(`ip addr flush dev home; ip -batch - <<X
addr add 192.168.1.1/24 dev home
addr add 192.168.1.7/24 dev home
addr add fd00:1::7/64 dev home nodad
addr add fe80::1/64 dev home nodad
X`)
		l.Script(fmt.Sprintf(`ip link set up%[1]d up; ip addr add 192.168.1.%[1]d0/24 dev up%[1]d; ip addr add fd00:1::%[1]d0/64 dev up%[1]d nodad
ip route add default via 192.168.1.1 dev up%[1]d metric %[1]d; ip -6 route add default via fe80::1 dev up%[1]d metric %[1]d`, i+1))
		sent(t, isp)
	}
	config := l.TOML("[uplink.up1]\nfwmark = 0x1001\n[uplink.up2]\nfwmark = 0x2005\n")
	l.MustMH("sync", "--config", config)
	noDriftOf(t, l, config)
	for _, state := range []string{"", "nft delete table inet wg_multihome"} {
		l.Script(state)
		for i, own := range []*lab.Namespace{l.ISP1, l.ISP2} {
			other := []*lab.Namespace{l.ISP2, l.ISP1}[i]
			for _, to := range []string{"192.168.1.7", "192.168.1.1", lab.Far4, "fd00:1::7", lab.Far6} {
				source := fmt.Sprintf("192.168.1.%d0", i+1)
				if strings.Contains(to, ":") {
					source = fmt.Sprintf("fd00:1::%d0", i+1)
				}
				for _, from := range []lab.Sender{{To: to, Mark: []uint32{0x1001, 0x2005}[i]}, {To: to, Source: source}} {
					before, others := sent(t, own), sent(t, other)
					lab.Until(t, fmt.Sprintf("%+v reaches its own uplink", from), func() bool {
						l.Send(from, 1)
						return sent(t, own) > before
					})
					if n := sent(t, other) - others; n != 0 {
						t.Errorf("%+v: %d left by the other uplink", from, n)
					}
				}
			}
		}
	}
	// A neighbour on a link, of which who sends says which one it is.
	for i, own := range []*lab.Namespace{l.ISP1, l.ISP2} {
		for _, m := range []uint32{0x1001, 0x2005} {
			before := sent(t, own)
			from := lab.Sender{To: "fe80::1", Mark: m, Device: fmt.Sprintf("up%d", i+1)}
			lab.Until(t, fmt.Sprintf("%+v arrives", from), func() bool {
				l.Send(from, 1)
				return sent(t, own) > before
			})
		}
	}
}
