package e2e

import (
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// by counts what arrives from the host at an ISP, on far's port, of one protocol.
func by(t *testing.T, isp *lab.Namespace, match string) func() int {
	t.Helper()
	return counting(t, isp, "prerouting priority 0", "iifname home "+match)
}

// TestUntrackedPacketsOfAService: what others keep from conntrack is not translated.
// It leaves by no other uplink, and by its own with a source of that alone.
func TestUntrackedPacketsOfAService(t *testing.T) {
	l := newLab(t)
	l.Static()
	service, config := packetService(t, l)
	l.Echo(l.Namespace, service, "127.0.0.1")
	lan := l.Behind()
	l.Echo(lan, "", "10.9.0.2")
	l.Script(`nft -f - <<X
table inet other {
	chain out { type filter hook output priority raw; th dport 7 notrack; th sport 7 notrack; }
	chain in { type filter hook prerouting priority raw; th dport 7 notrack; th sport 7 notrack; }
}
X`)
	l.MustMH("sync", "--config", config)
	one, two := by(t, l.ISP1, "th dport 7"), by(t, l.ISP2, "th dport 7")
	wantCutOff(t, l, service, lab.Far4)
	wantCutOff(t, l, service, lab.Far6)
	if one() != 0 || two() != 0 {
		t.Errorf("%d packets by up1, %d by up2 with a source of up1", one(), two())
	}
	if n := counter(t, l.Namespace, "wg_multihome", "lock_0x2005"); n == 0 {
		t.Error("what is dropped is not counted")
	}
	for _, c := range []struct{ far, source, seen string }{
		{lab.Far4, two4, two4}, {lab.Far6, two6, two6}, {"127.0.0.1", "", "127.0.0.1"}, {"10.9.0.2", "", "10.9.0.1"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if got := l.Ask(lab.Query{Network: network, Far: c.far, Source: c.source, Cgroup: service}); got != c.seen {
				t.Errorf("%s to %s from %q: %q, want %q", network, c.far, c.source, got, c.seen)
			}
		}
	}
	wantService(t, l, "", lab.Far4, one4)
	noSpoof(t, l)
}

// TestConnectionThatConntrackForgot: a connection that outlived its entry is taken up
// by none where conntrack takes up none in its midst, and so is not translated.
func TestConnectionThatConntrackForgot(t *testing.T) {
	l := newLab(t)
	l.Static()
	service, config := packetService(t, l)
	for _, far := range []string{lab.Far4, lab.Far6} {
		l.ChatServer(l.Far, "", far)
	}
	l.MustMH("sync", "--config", config)
	l.Script("sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0")
	one := by(t, l.ISP1, "tcp dport 8")
	for _, far := range []string{lab.Far4, lab.Far6} {
		c := l.Chat(l.Namespace, service, far)
		if got := c.Say("hello"); got != "hello" {
			t.Fatalf("%s: %s", far, got)
		}
		l.ForgetConnections()
		if got := c.Say("lost"); !strings.HasPrefix(got, "error: ") {
			t.Errorf("%s: %s", far, got)
		}
	}
	if n := one(); n != 0 {
		t.Errorf("%d packets by up1", n)
	}
	noSpoof(t, l)
}

// TestStraySegmentEndsNoConnection: a segment outside of the window is not
// translated back, and this host would answer it with a reset.
func TestStraySegmentEndsNoConnection(t *testing.T) {
	l := newLab(t)
	l.Static()
	service, config := packetService(t, l)
	l.MustMH("sync", "--config", config)
	for _, far := range []string{lab.Far4, lab.Far6} {
		l.ChatServer(l.Far, "", far)
		c := l.Chat(l.Namespace, service, far)
		if got := c.Say("hello"); got != "hello" {
			t.Fatalf("%s: %s", far, got)
		}
		resets := by(t, l.ISP2, "tcp flags rst")
		invalid := counting(t, l.Namespace, "prerouting priority 0", "iifname up2 meta l4proto tcp ct state invalid")
		l.ISP2.Script("nft add table inet stray; nft add chain inet stray out '{ type filter hook postrouting priority 0; }'")
		// One of them is ahead of the window; what is behind it conntrack takes for an
		// old one of this connection.
		for _, sequence := range []string{"1", "2147483649"} {
			l.ISP2.Script("nft flush chain inet stray out; nft add rule inet stray out oifname home tcp sport 8 'tcp flags & psh == psh' limit rate 1/hour burst 1 packets tcp sequence set " + sequence)
			if got := c.Say("more"); got != "more" {
				t.Errorf("%s: said %q", far, got)
			}
		}
		if invalid() == 0 || resets() != 0 {
			t.Errorf("%s: %d segments were out of the window, and %d resets left", far, invalid(), resets())
		}
		l.ISP2.Script("nft delete table inet stray")
	}
	// What nobody listens on is refused as ever.
	if out := l.Far.Try(nil, "sh", "-c", "echo | timeout 3 bash -c 'cat > /dev/tcp/"+two4+"/9999' 2>&1").Stdout; !strings.Contains(out, "refused") {
		t.Errorf("a port that nobody listens on: %q", out)
	}
	noSpoof(t, l)
}

// TestMarkTakenOffOnTheWay: a rule of others takes a packet's mark off, and has it
// routed anew; its connection tells all the same.
func TestMarkTakenOffOnTheWay(t *testing.T) {
	l := newLab(t)
	l.Static()
	service, config := packetService(t, l)
	l.Script("nft add table inet other; nft add chain inet other out '{ type route hook output priority -140; }'; nft add rule inet other out th dport 7 meta mark set 0x77")
	l.MustMH("sync", "--config", config)
	one := by(t, l.ISP1, "th dport 7")
	wantCutOff(t, l, service, lab.Far4)
	wantCutOff(t, l, service, lab.Far6)
	if n := one(); n != 0 {
		t.Errorf("%d packets by up1", n)
	}
	if n := counter(t, l.Namespace, "wg_multihome", "lock_0x2005"); n == 0 {
		t.Error("what is dropped is not counted")
	}
	l.Script("nft flush chain inet other out; nft add rule inet other out th dport 7 meta mark set 0")
	wantCutOff(t, l, service, lab.Far4)
	wantCutOff(t, l, service, lab.Far6)
	if n := one(); n != 0 {
		t.Errorf("%d packets without a mark by up1", n)
	}
	wantService(t, l, "", lab.Far4, one4)
	wantService(t, l, "", lab.Far6, one6)
}
