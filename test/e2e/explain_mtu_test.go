package e2e

import (
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// sendLarge sends UDP that is larger than the path takes, until that is learned; it is
// for a socket that is there, and asked (IPV6_MTU is 24).
const sendLarge = `import socket, sys, time
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.connect((sys.argv[1], 9))
for _ in range(500):
    try: s.send(b"x" * 1450)
    except OSError: pass
    if s.getsockopt(socket.IPPROTO_IPV6, 24) == 1400: break
    time.sleep(0.02)`

// TestExplainKnowsPathMTUs: what IPv6 has learned of a path is a route of its own,
// which a rule that passes over defaults does not pass over; and one of ours does.
func TestExplainKnowsPathMTUs(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.Script(`ip -6 rule add pref 100 fwmark 0x99 lookup main suppress_prefixlength 0
ip -6 rule add pref 101 fwmark 0x99 lookup 99; ip -6 route add default via 2001:db8:2::1 dev up2 table 99`)
	l.ISP1.Script(narrowBeyond1)
	by := func(want, why string) {
		t.Helper()
		e := explain(t, l, "--mark", "0x99", lab.Far6).Explanations[0]
		if !e.Kernel.Agrees || e.Verdict.Device != want || !strings.Contains(e.Verdict.Why, why) {
			t.Errorf("%+v", e)
		}
	}
	by("up2", "")
	l.Run("python3", "-c", sendLarge, lab.Far6)
	by("up1", "path MTU")
	text := l.MustMH("explain", "--mark", "0x99", lab.Far6).Stdout
	for _, part := range []string{"mtu 1400 (a path MTU that a router told)", "\nmend      ip -6 route flush cache"} {
		wantPart(t, "explain", text, part)
	}
	wantPart(t, "explain", l.MustMH("explain", "--json", "--mark", "0x99", lab.Far6).Stdout, `"path_mtu": 1400`)
	l.MustMH("sync") // ours pass over it, by the link group
	own := explain(t, l, "--mark", "0x2005", lab.Far6).Explanations[0]
	if !own.Kernel.Agrees || own.Verdict.Device != "up2" || !own.Verdict.Own {
		t.Errorf("a mark of ours: %+v", own)
	}
	wantPart(t, "a mark of ours", l.MustMH("explain", "--mark", "0x2005", lab.Far6).Stdout, "(a path MTU that a router told), by an uplink or a full tunnel: passed over")
	l.Run("ip", "-6", "route", "flush", "cache")
	by("up2", "")
}

// narrowBeyond1 has ISP1's router lead nothing larger than 1400 bytes to far.
const narrowBeyond1 = `ip -6 route show dev far | grep -v ^fe80 | grep via | while read -r to rest; do ip -6 route change $to $rest dev far mtu lock 1400; done`
