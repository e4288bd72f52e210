package e2e

import (
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// TestSourceOfService: what is not the uplink's becomes the uplink's address,
// and what is stays. Of several IPv6 addresses masquerading takes the one that
// the kernel would choose for that device, so the second one is deprecated.
func TestSourceOfService(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Script("ip addr add 198.51.100.77/24 dev up2; ip addr add 2001:db8:2::77/64 dev up2 nodad preferred_lft 0")
	service := pinnedService(t, l)
	l.MustMH("sync")
	for _, c := range []struct{ far, source, seen string }{
		{lab.Far4, "", two4}, {lab.Far6, "", two6}, {lab.Far4, two4, two4}, {lab.Far6, two6, two6},
		{lab.Far4, "198.51.100.77", "198.51.100.77"}, {lab.Far6, "2001:db8:2::77", "2001:db8:2::77"},
		{lab.Far4, one4, two4}, {lab.Far6, one6, two6}, // another uplink's
	} {
		for _, network := range []string{"udp", "tcp"} {
			if got := l.Ask(lab.Query{Network: network, Far: c.far, Source: c.source, Cgroup: service}); got != c.seen {
				t.Errorf("%s to %s from %q: far saw %q, want %q", network, c.far, c.source, got, c.seen)
			}
		}
	}
	noSpoof(t, l)
}

// TestLANsAreReachedAsBefore: destinations that main has a longer route to; of what
// is behind another uplink those that are private.
func TestLANsAreReachedAsBefore(t *testing.T) {
	l := newLab(t)
	l.Static()
	service := pinnedService(t, l)
	lan := l.Behind()
	l.Script("ip addr add 192.168.100.10/24 dev up1; ip addr add fd00:100::10/64 dev up1 nodad")
	l.ISP1.Script("ip addr add 192.168.100.1/24 dev home; ip addr add fd00:100::1/64 dev home nodad")
	l.MustMH("sync")
	for _, c := range []struct {
		where      *lab.Namespace
		addr, seen string
	}{
		{lan, "10.9.0.2", "10.9.0.1"}, {lan, "fd00:9::2", "fd00:9::1"},
		{l.ISP1, "192.168.100.1", "192.168.100.10"}, {l.ISP1, "fd00:100::1", "fd00:100::10"}, {l.ISP2, "198.51.100.1", two4}, {l.ISP2, "2001:db8:2::1", two6},
	} {
		l.Echo(c.where, "", c.addr)
		wantService(t, l, service, c.addr, c.seen)
	}
	// Of the host's own addresses too.
	l.Echo(l.Namespace, "", one4, "127.0.0.1", "::1")
	wantService(t, l, service, one4, one4)
	wantService(t, l, service, "127.0.0.1", "127.0.0.1")
	wantService(t, l, service, "::1", "::1")
	wantService(t, l, service, lab.Far4, two4)
}

// TestForwardedTrafficIsLeftAlone has a network behind the host with addresses
// of each ISP, and a router's own rule that marks some of it.
func TestForwardedTrafficIsLeftAlone(t *testing.T) {
	l := newLab(t)
	l.Static()
	service := pinnedService(t, l)
	lan := l.Behind()
	lan.Script("for a in 192.0.2.50/32 198.51.100.50/32 2001:db8:1::50/128 2001:db8:2::50/128 192.0.2.51/32; do ip addr add $a dev home; done")
	l.Script(`for a in 192.0.2.50 192.0.2.51 198.51.100.50; do ip route add $a dev lan; done
for a in 2001:db8:1::50 2001:db8:2::50; do ip route add $a dev lan; done
ip route add default via 198.51.100.1 dev up2 table 77; ip -6 route add default via 2001:db8:2::1 dev up2 table 77
ip rule add pref 100 from 198.51.100.50 iif lan lookup 77; ip -6 rule add pref 100 from 2001:db8:2::50 iif lan lookup 77`)
	l.ISP1.Script("ip route add 192.0.2.50 via 192.0.2.10; ip route add 192.0.2.51 via 192.0.2.10; ip route add 2001:db8:1::50 via 2001:db8:1::10")
	l.ISP2.Script("ip route add 198.51.100.50 via 198.51.100.10; ip route add 2001:db8:2::50 via 2001:db8:2::10")
	l.MustMH("sync")
	for _, c := range []struct{ far, source string }{
		{lab.Far4, "192.0.2.50"}, {lab.Far4, "198.51.100.50"}, {lab.Far6, "2001:db8:1::50"}, {lab.Far6, "2001:db8:2::50"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if got := l.Ask(lab.Query{From: lan, Network: network, Far: c.far, Source: c.source}); got != c.source {
				t.Errorf("%s from %s: far saw %q", network, c.source, got)
			}
		}
	}
	wantService(t, l, service, lab.Far4, two4)
	noSpoof(t, l)
	// Marked by the router's own rules, it goes by the uplink, with the source
	// that it has: whoever marks it sees to that.
	l.Script("nft add table inet router; nft add chain inet router pre '{ type filter hook prerouting priority -150; }'; nft add rule inet router pre ip saddr 192.0.2.51 meta mark set 0x2005")
	if got := l.Ask(lab.Query{From: lan, Network: "tcp", Far: lab.Far4, Source: "192.0.2.51"}); got == two4 {
		t.Errorf("a forwarded connection was masqueraded: far saw %q", got)
	}
	if l.Spoofed() == 0 {
		t.Error("what the router marked did not reach the uplink")
	}
}

// TestSrcValidMarkIsPutBack as far as it was us who set it.
func TestSrcValidMarkIsPutBack(t *testing.T) {
	const key = "net.ipv4.conf.up2.src_valid_mark"
	for name, c := range map[string]struct {
		meanwhile string // after our first sync
		synced    string // the value after another sync
		after     string // what is done then
		down      string // the value after down
	}{
		"nothing":                   {"true", "1", "true", "0"},
		"set back by others":        {"sysctl -qw " + key + "=0", "1", "true", "0"},
		"no longer needed":          {"sysctl -qw net.ipv4.conf.up2.rp_filter=0", "0", "true", "0"},
		"others' own then":          {"sysctl -qw net.ipv4.conf.up2.rp_filter=0 " + key + "=0", "0", "sysctl -qw " + key + "=1", "1"},
		"the uplink is made anew":   {renewed, "1", "true", "0"},
		"anew, and set by others":   {renewed + "; sysctl -qw " + key + "=1; sysctl -qw net.ipv4.conf.up2.rp_filter=0", "1", "true", "1"},
		"all interfaces, by others": {"sysctl -qw net.ipv4.conf.all.src_valid_mark=1", "0", "true", "0"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Script("sysctl -qw net.ipv4.conf.up2.rp_filter=1")
			service := pinnedService(t, l)
			value := func() string { return strings.TrimSpace(l.Run("sysctl", "-n", key)) }
			l.MustMH("sync")
			wantEqual(t, "after sync", value(), "1")
			l.Script(strings.ReplaceAll(c.meanwhile, "wg-multihome", l.Binary))
			l.MH("sync")
			noDrift(t, l)
			wantEqual(t, "after another sync", value(), c.synced)
			if !strings.Contains(c.meanwhile, "ip link") {
				wantService(t, l, service, lab.Far4, two4)
			}
			l.Script(c.after)
			l.MustMH("down")
			wantEqual(t, "after down", value(), c.down)
			if left := l.Run("ls", "/run/wg-multihome/sysctl"); left != "" {
				t.Errorf("what is left is noted still: %s", left)
			}
		})
	}
}

// renewed makes up2 anew, while a run of ours finds it gone.
const renewed = `ip link del up2; wg-multihome sync || true; ip link add up2 type veth peer name x2; ip link set up2 up; ip link set x2 up
ip addr add 198.51.100.10/24 dev up2; ip route add default via 198.51.100.1 dev up2 metric 2; sysctl -qw net.ipv4.conf.up2.rp_filter=1`
