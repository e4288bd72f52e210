package e2e

import (
	"testing"

	"wg-multihome/test/lab"
)

// TestLockBeforeAnyUplink is a boot: the first run finds a mark and no address
// anywhere. Then the other uplink comes, and what brings it up deletes all rules,
// as systemd-networkd does with its defaults. Nothing of the mark leaves by it.
// What comes later and is private is reached all the same, but for a tunnel's.
func TestLockBeforeAnyUplink(t *testing.T) {
	for name, withRules := range map[string]bool{"rules deleted": false, "rules stand": true} {
		t.Run(name, func(t *testing.T) { lockBeforeAnyUplink(t, withRules) })
	}
}

func lockBeforeAnyUplink(t *testing.T, withRules bool) {
	t.Helper()
	l := newLab(t)
	l.Interfaces(pinned)
	l.MustMH("sync")
	l.Static()
	if !withRules {
		l.Script(rulesGone)
	}
	sent(t, l.ISP1)
	before := dropped(t, l, "lock_0x2005")
	for _, far := range []string{lab.Far4, lab.Far6} {
		for _, device := range []string{"", "up1"} {
			l.Send(lab.Sender{To: far, Mark: mark, Device: device}, 50)
		}
	}
	if n := sent(t, l.ISP1); n != 0 {
		t.Errorf("%d of 200 packets left by the other uplink", n)
	}
	if n := dropped(t, l, "lock_0x2005") - before; withRules == (n == 200) || !withRules && n < 200 {
		t.Errorf("with rules %t the lock dropped %d packets", withRules, n)
	}
	l.Script(`ip link add br9 type bridge; ip link set br9 up
ip addr add 10.88.0.1/24 dev br9; ip addr add 192.88.0.1/24 dev br9; ip neigh add 10.88.0.2 lladdr 02:00:00:00:00:09 dev br9; ip neigh add 192.88.0.2 lladdr 02:00:00:00:00:09 dev br9
ip tuntap add dev tun9 mode tun; ip link set tun9 up; ip addr add 10.89.0.1/24 dev tun9`)
	passed(t, l, "br9")
	for to, device := range map[string]string{"10.88.0.2": "br9", "192.88.0.2": "br9", "10.89.0.2": "tun9"} {
		want := 0
		if to == "10.88.0.2" {
			want = 5
		}
		begun := passed(t, l, device)
		l.Send(lab.Sender{To: to, Mark: mark}, 5)
		if n := passed(t, l, device) - begun; n != want {
			t.Errorf("%d of 5 datagrams to %s by %s, which came after the run; want %d", n, to, device, want)
		}
	}
	l.MustMH("sync")
	begun := passed(t, l, "tun9")
	l.Send(lab.Sender{To: "10.89.0.2", Mark: mark}, 5)
	if n := passed(t, l, "tun9") - begun; n != 5 {
		t.Errorf("%d of 5 datagrams by a tunnel that a run has seen", n)
	}
	l.WantSeen(lab.Far4, "", mark, two4)
}
