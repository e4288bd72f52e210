package e2e

import (
	"testing"
	"time"

	"wg-multihome/nft"
	"wg-multihome/test/lab"
)

// TestLateAnswers: what conntrack is to forget of a service goes on being answered for a
// while. To conntrack such an answer is the first packet of a connection that somebody
// else begins; what the service sends on is not taken for its answers, and gets a mark.
// A run that finds what a killed one had still to forget does it.
func TestLateAnswers(t *testing.T) {
	marked := func(one, two, way, cgroup string) string {
		return "iface up1 inet dhcp\n\tmultihomed-fwmark " + one + "\niface up2 inet dhcp\n\tmultihomed-fwmark " + two + "\n" +
			way + "\tmultihomed-cgroup " + cgroup + "\n"
	}
	onSockets, onPackets := marked("0x1005", "0x2005", "", socketService), marked("0x1005", "0x2005", byPacket, socketService)
	exchanged, below := marked("0x2005", "0x1005", byPacket, socketService), marked("0x1005", "0x2005", byPacket, "test.slice")
	for name, c := range map[string]struct {
		before, then string
		deleted      bool   // our table is, as the service begins
		killed       bool   // a run was, before it had anything forgotten
		network      string // whose address the service has bound
	}{
		"sockets to packets":      {before: onSockets, then: onPackets, network: two4},
		"exchange of numbers":     {before: onPackets, then: exchanged, network: two4},
		"begun without our table": {before: onPackets, then: onPackets, network: one4, deleted: true},
		"killed before that":      {before: onPackets, then: onPackets, network: two4, killed: true},
		"begun so below a slice":  {before: below, then: below, network: one4, deleted: true},
	} {
		t.Run(name, func(t *testing.T) {
			l, _ := socketLab(t)
			l.Server(l.Far, "", "chatty", lab.Far4, 11)
			l.Interfaces(c.before)
			l.MustMH("sync")
			if c.deleted {
				l.Script("nft 'table inet other { chain out { type filter hook output priority 0; ct state new accept; }; }'; nft delete table inet wg_multihome")
			}
			stop := l.Flow(lab.Flow{Network: "udp", To: lab.Far4, Port: 11, Source: c.network, Size: 11, Cgroup: socketService})
			answered := counting(t, l.Far, "output priority 0", "udp sport 11")
			lab.Until(t, "it is answered", func() bool { return answered() > 20 })
			if c.killed {
				l.Script(`nft 'table inet other { chain out { type filter hook output priority 300; udp dport 11 ct mark set 0; }; }'; sleep 0.1
nft delete table inet other; nft add counter inet wg_multihome unforgotten`)
			}
			l.Interfaces(c.then)
			l.MustMH("sync")
			one, two := by(t, l.ISP1, "udp dport 11"), by(t, l.ISP2, "udp dport 11")
			lab.Until(t, "it sends on by its uplink", func() bool { return two() > 50 })
			l.Run("ip", "link", "set", "up2", "down")
			l.MustMH("sync")
			l.WantSeen(lab.Far4, "", 0, one4)
			time.Sleep(nft.LateTime + time.Second) // it is answered all the while
			stop()
			if n := one(); n != 0 {
				t.Errorf("%d datagrams left by the other uplink", n)
			}
		})
	}
}

// TestLateAnswersAreGuessed: conntrack is turned on as a service gets pinned, and what it
// meets first of a socket that is not connected may be a question as well as an answer. One
// who asks again and again is heard, if only after a while.
func TestLateAnswersAreGuessed(t *testing.T) {
	l, _ := socketLab(t)
	l.Server(l.Namespace, socketService, "silent", "0.0.0.0", 12)
	defer l.Flow(lab.Flow{From: l.Far, Network: "udp", To: one4, Port: 12})()
	heard := counting(t, l.Namespace, "input priority 0", "udp dport 12")
	lab.Until(t, "it is heard", func() bool { return heard() > 20 })
	l.Interfaces(pinned + byPacket + "\tmultihomed-cgroup " + socketService + "\n")
	l.MustMH("sync")
	dropped := heard()
	time.Sleep(time.Second)
	if n := heard() - dropped; n != 0 {
		t.Errorf("%d that may be answers are heard at once", n)
	}
	time.Sleep(nft.LateTime) // it asks all the while
	before := heard()
	lab.Until(t, "it is heard again", func() bool { return heard() > before+20 })
}
