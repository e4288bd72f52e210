package e2e

import (
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// neighbours is a host with about all that longer routes can lead to, none of
// it an uplink of the mark.
const neighbours = `
# another uplink's: an address behind its router, a subnet of its own, option 121
ip addr replace 192.0.2.10/24 brd + dev up1
ip route add 10.121.0.0/16 via 192.0.2.1 dev up1
# docker: a bridge with a veth
ip link add docker0 type bridge
ip addr add 172.17.0.1/16 brd + dev docker0; ip addr add fd17::1/64 dev docker0 nodad
ip link set veth0 master docker0; ip link set veth0 up; ip link set docker0 up
# a veth with an address of the other side
ip addr add 10.88.0.1 peer 10.88.0.2/32 dev veth1; ip link set veth1 up
# a split tunnel, as OpenVPN's or wg-quick's
ip tuntap add dev tun9 mode tun; ip link set tun9 up
ip route add 10.77.0.0/16 dev tun9; ip route add fd77::/64 dev tun9
# nested prefixes
ip route add 10.0.0.0/8 dev tun9; ip route add 10.1.0.0/16 via 192.0.2.1 dev up1; ip route add 10.1.2.0/24 dev tun9
# two ways for one prefix
ip route add 10.122.0.0/16 nexthop dev tun9 nexthop via 192.0.2.1 dev up1
# Tailscale
ip tuntap add dev tailscale0 mode tun; ip link set tailscale0 up
ip route add 100.100.100.100 dev tailscale0 table 52; ip route add 10.52.0.0/16 dev tailscale0 table 52; ip route add fd7a:115c:a1e0::/48 dev tailscale0 table 52
for f in -4 -6; do
	ip $f rule add pref 5210 fwmark 0x80000/0xff0000 lookup main
	ip $f rule add pref 5230 fwmark 0x80000/0xff0000 lookup default
	ip $f rule add pref 5250 fwmark 0x80000/0xff0000 unreachable
	ip $f rule add pref 5270 lookup 52
done
# networkd and wg-quick: by a mark that it is not, and main without its default
ip route add 10.99.0.0/16 dev tun9 table 1000; ip route add fd99::/64 dev tun9 table 1000
for f in -4 -6; do
	ip $f rule add pref 5300 not fwmark 0x51 lookup 1000
	ip $f rule add pref 5299 lookup main suppress_prefixlength 0
done
# a rule by destination, whose table has a default alone: in front of the rule for
# main, which ours go in front of, as main leads to uplinks' public networks
ip route add default dev tun9 table 78; ip rule add pref 5201 to 203.0.113.128/25 lookup 78
ip -6 route add default dev tun9 table 78; ip -6 rule add pref 5201 to 2001:db8:78::/48 lookup 78
`

// behind are destinations that a longer route or the link itself leads to, and
// the device that they leave by. Where bound is set the socket is bound to it.
var behind = []struct{ name, to, device, bound string }{
	{"the other uplink's modem", "192.168.100.1", "up1", ""},
	{"the other uplink's LAN", "192.168.100.77", "up1", ""},
	{"the other uplink's LAN, IPv6", "fd00:100::77", "up1", ""},
	{"the other uplink's LAN, bound", "192.168.100.77", "up1", "up1"},
	{"a link-local address", "fe80::1", "up1", "up1"},
	{"option 121", "10.121.0.9", "up1", ""},
	{"docker", "172.17.0.2", "docker0", ""},
	{"docker, IPv6", "fd17::2", "docker0", ""},
	{"docker's broadcast", "172.17.255.255", "docker0", ""},
	{"a veth", "10.88.0.2", "veth1", ""},
	{"a split tunnel", "10.77.1.1", "tun9", ""},
	{"a split tunnel, IPv6", "fd77::1", "tun9", ""},
	{"the outer of nested prefixes", "10.3.0.1", "tun9", ""},
	{"the middle one", "10.1.3.1", "up1", ""},
	{"the inner one", "10.1.2.1", "tun9", ""},
	{"a node of Tailscale's", "100.100.100.100", "tailscale0", ""},
	{"a subnet of Tailscale's", "10.52.0.1", "tailscale0", ""},
	{"Tailscale, IPv6", "fd7a:115c:a1e0::1", "tailscale0", ""},
	{"a table of networkd's", "10.99.0.1", "tun9", ""},
	{"a table of networkd's, IPv6", "fd99::1", "tun9", ""},
	{"a rule by destination", "203.0.113.200", "tun9", ""},
	{"a rule by destination, IPv6", "2001:db8:78::1", "tun9", ""},
	{"mDNS", "224.0.0.251", "up1", "up1"},
	{"mDNS, IPv6", "ff02::fb", "up1", "up1"},
	{"SSDP", "239.255.255.250", "up1", "up1"},
	{"SSDP, IPv6", "ff05::c", "up1", "up1"},
	{"mDNS in a tunnel", "224.0.0.251", "tun9", "tun9"},
	{"broadcast", "255.255.255.255", "up1", "up1"},
	{"the subnet's broadcast", "192.168.100.255", "up1", ""},
}

// TestLockLetsThroughWhatLiesBehind has no false positives: what goes by a
// longer route or stays on its link is as free with a mark as without. The
// rest of the very same devices is held.
func TestLockLetsThroughWhatLiesBehind(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.ISP1.Run("sysctl", "-qw", "net.ipv4.conf.home.proxy_arp=1")
	l.Link("veth0", l.Far, "c0")
	l.Link("veth1", l.Far, "c1")
	l.Far.Script("ip link set c0 up; ip link set c1 up")
	l.Script(neighbours)
	l.Script("ip addr add 192.168.100.10/24 dev up1; ip addr add fd00:100::10/64 dev up1 nodad")
	l.Interfaces(pinned)
	l.MustMH("sync")
	noDrift(t, l)
	passed(t, l, "up1")
	for _, m := range []uint32{mark, 0, 7} {
		for _, c := range behind {
			before := passed(t, l, c.device)
			for _, hint := range []bool{false, true} {
				if !hint || c.bound != "" {
					l.Send(lab.Sender{To: c.to, Mark: m, Device: c.bound, Hint: hint}, 3)
				}
			}
			want := 3
			if c.bound != "" {
				want *= 2
			}
			if strings.HasSuffix(c.name, "broadcast") {
				want *= 2 // the host's own copy of each
			}
			if n := passed(t, l, c.device) - before; n != want {
				t.Errorf("%s, %s by %s with mark %#x: %d of %d datagrams passed", c.name, c.to, c.device, m, n, want)
			}
		}
	}
	if n := dropped(t, l, "lock_0x2005"); n != 0 {
		t.Errorf("the lock dropped %d packets", n)
	}
	for _, device := range []string{"up1", "tun9", "tailscale0"} {
		before, lost := passed(t, l, device), dropped(t, l, "lock_0x2005")
		l.Send(lab.Sender{To: "203.0.113.99", Mark: mark, Device: device}, 3)
		if n := passed(t, l, device) - before; n != 0 || dropped(t, l, "lock_0x2005")-lost != 3 {
			t.Errorf("%d datagrams that no longer route leads through %s have passed", n, device)
		}
	}
	l.WantSeen(lab.Far4, "", mark, two4)
	l.WantSeen(lab.Far6, "", mark, two6)
	l.WantSeen(lab.Far4, "", 0, one4)
	l.WantSeen(lab.Far6, "", 0, one6)
}
