package e2e

import (
	"testing"

	"wg-multihome/test/lab"
)

// TestSocketsToPackets: what a service has sent while its sockets were marked is known
// to conntrack without a mark. When its packets are marked instead, what it sends on by
// the same socket is: once the uplink is lost it does not leave by the other one with
// the lost one's address.
func TestSocketsToPackets(t *testing.T) {
	for _, listed := range []string{socketService, "test.slice"} {
		t.Run(listed, func(t *testing.T) {
			l, _ := socketLab(t)
			sync := func(way string) {
				l.Interfaces(pinned + way + "\tmultihomed-cgroup " + listed + "\n")
				l.MustMH("sync")
			}
			sync("")
			one, two := by(t, l.ISP1, "udp length 19"), by(t, l.ISP2, "udp length 19")
			l.Flow(lab.Flow{Network: "udp", To: lab.Far4, Source: two4, Size: 11, Cgroup: socketService})
			lab.Until(t, "it sends", func() bool { return two() > 20 })
			sync(byPacket)
			before := two()
			lab.Until(t, "it sends on", func() bool { return two() > before+20 })
			l.Run("ip", "link", "set", "up2", "down")
			l.MustMH("sync")
			l.WantSeen(lab.Far4, "", 0, one4)
			if n := one(); n != 0 {
				t.Errorf("%d datagrams left by the other uplink", n)
			}
			noDrift(t, l)
		})
	}
}
