//go:build guest

package e2e

import (
	"fmt"
	"testing"

	"wg-multihome/test/lab"
)

// TestGuestWgQuickFullTunnel has a marked sender at full rate while the real
// wg-quick takes a full tunnel of the kernel up and down. While it goes up, its
// rule stands in front of ours until PostUp: the second lock is what holds then,
// as the run without it shows.
func TestGuestWgQuickFullTunnel(t *testing.T) {
	for name, c := range map[string]struct {
		fwmark string // a line of the tunnel's file
		lock   bool
		leaks  bool
	}{
		"with FwMark":                       {fmt.Sprintf("FwMark = %#x\n", mark), true, false},
		"without FwMark":                    {"", true, false},
		"without FwMark and without a lock": {"", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Interfaces(pinned)
			l.MustMH("sync")
			before := l.Rules("-4")
			own, peer := newKey(t), newKey(t)
			l.Write("/run/wg7.conf", fmt.Sprintf(`[Interface]
PrivateKey = %[1]s
Address = 10.200.0.1/24
%[5]sPostUp = %[2]s sync --hook
PostDown = %[2]s sync --hook
[Peer]
PublicKey = %[3]s
AllowedIPs = 0.0.0.0/0
Endpoint = %[4]s:51820
`, own, l.Binary, peer.PublicKey(), lab.Far4, c.fwmark), 0o600)
			passed(t, l, "wg7")
			sent(t, l.ISP1)
			sent(t, l.ISP2)
			if !c.lock {
				l.Script(lockGone)
			}
			stop := l.Stream(lab.Sender{To: lab.Far4, Mark: mark})
			quick := func(what string) {
				t.Helper()
				if r := l.Try(nil, "wg-quick", what, "/run/wg7.conf"); r.Code != 0 {
					t.Fatalf("wg-quick %s: exit status %d\n%s%s", what, r.Code, r.Stdout, r.Stderr)
				}
			}
			quick("up")
			wantPart(t, "kind", l.Run("ip", "-d", "link", "show", "wg7"), "wireguard")
			wantPart(t, "what goes by default", l.Run("ip", "route", "get", lab.Far4), "dev wg7")
			l.WantSeen(lab.Far4, "", mark, two4)
			noDrift(t, l)
			up, upHeld := passed(t, l, "wg7"), dropped(t, l, "lock_0x2005")
			quick("down")
			total := stop()
			right, wrong := sent(t, l.ISP2), sent(t, l.ISP1)
			inTunnel := passed(t, l, "wg7")
			t.Logf("%d left the sockets, %d by their uplink, %d by the other one, %d in the tunnel (%d before it went down); the lock held %d of those of up", total, right, wrong, inTunnel, up, upHeld)
			if wrong != 0 {
				t.Errorf("%d marked packets left by the other uplink", wrong)
			}
			if (inTunnel > 0) != c.leaks {
				t.Errorf("%d marked packets went into the tunnel", inTunnel)
			}
			if right == 0 {
				t.Error("no packet left by its uplink: nothing was proved")
			}
			if c.lock && c.fwmark == "" && upHeld == 0 {
				t.Error("the lock dropped nothing: nothing was proved")
			}
			noDrift(t, l)
			wantEqual(t, "rules", sortLines(l.Rules("-4")), sortLines(before))
			l.WantSeen(lab.Far4, "", mark, two4)
			noSpoof(t, l)
		})
	}
}
