//go:build guest

package e2e

import (
	"testing"

	"wg-multihome/test/lab"
)

// TestGuestUplinkInVRF cannot be led to: its mark is refused, and it is said why.
func TestGuestUplinkInVRF(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.Script("ip link add red type vrf table 10; ip link set red up; ip link set up2 master red")
	r := l.MH("sync")
	wantCode(t, r, 1)
	wantPart(t, "the message", r.Stderr, `uplink "up2" is in VRF "red"`)
	wantNone(t, "the message", r.Stderr, "Invalid")
	wantEqual(t, "plan", l.MH("plan").Stdout, "")
	l.WantRefused(lab.Far4, "", mark)
	l.WantRefused(lab.Far6, "", mark)
	l.WantSeen(lab.Far4, one4, 0, one4)
	l.Script("ip link set up2 nomaster; ip addr add 2001:db8:2::10/64 dev up2 nodad 2>/dev/null || true; ip route replace default via 198.51.100.1 dev up2 metric 2; ip -6 route replace default via 2001:db8:2::1 dev up2 metric 2")
	l.MustMH("sync")
	noDrift(t, l)
	l.WantSeen(lab.Far4, "", mark, two4)
	l.WantSeen(lab.Far6, "", mark, two6)
	noSpoof(t, l)
}
