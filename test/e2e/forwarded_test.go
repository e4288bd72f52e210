package e2e

import (
	"testing"

	"wg-multihome/test/lab"
)

// TestForwardedByItsMark has another tool mark some of what the host forwards, in
// prerouting, with the mark of an uplink that a service is pinned to. That leaves by the
// uplink or not at all, by the rules and by the second lock, each alone. What a process of
// the service sends in a network namespace of its own comes here without a mark.
func TestForwardedByItsMark(t *testing.T) {
	for name, marking := range map[string]string{"by socket": "", "by packet": byPacket} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			service := l.MakeCgroup("a.service")
			l.Interfaces(pinned + marking + "\tmultihomed-cgroup " + service + "\n")
			lan := l.Behind()
			l.Script(`nft -f - <<X
table inet router {
	set marked { typeof meta nfproto; }
	chain pre {
		type filter hook prerouting priority mangle
		iifname lan udp dport 9 meta nfproto @marked meta mark set 0x2005
	}
}
X`)
			l.MustMH("sync")
			sent(t, l.ISP1)
			sent(t, l.ISP2)
			const each = 10
			// want sends from behind the host, and compares what leaves by each uplink.
			all1, all2 := 0, 0
			want := func(what string, by1, by2 int) {
				t.Helper()
				for _, far := range []string{lab.Far4, lab.Far6} {
					all1, all2 = all1+by1, all2+by2
					if n := l.Send(lab.Sender{From: lan, To: far, Cgroup: service}, each); n != each {
						t.Fatalf("%s: %d of %d datagrams were sent", what, n, each)
					}
					lab.Until(t, what+": those to "+far+" leave as they are to", func() bool { return sent(t, l.ISP1) == all1 && sent(t, l.ISP2) == all2 })
				}
			}
			want("unmarked", each, 0)
			l.Script("nft add element inet router marked '{ ipv4, ipv6 }'")
			want("marked", 0, each)
			l.Script("ip route del default dev up2; ip -6 route del default dev up2")
			l.MustMH("sync")
			want("the uplink has no route", 0, 0)
			before := dropped(t, l, "lock_0x2005")
			l.Script(rulesGone)
			want("the lock alone", 0, 0)
			if n := dropped(t, l, "lock_0x2005") - before; n != 2*each {
				t.Errorf("the lock dropped %d of %d datagrams", n, 2*each)
			}
			l.Script(lockGone)
			want("neither", each, 0) // that is what the test sees where nothing holds them
			l.MustMH("sync")
			l.Script(lockGone)
			want("the rules alone", 0, 0)
			l.Script("ip route add default via 198.51.100.1 dev up2 metric 2; ip -6 route add default via 2001:db8:2::1 dev up2 metric 2")
			l.MustMH("sync")
			noDrift(t, l)
			want("mended", 0, each)
		})
	}
}
