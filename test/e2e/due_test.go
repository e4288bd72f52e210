package e2e

import (
	"strings"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// TestUserspaceHookKeepsOthersNotes: what is to be refreshed by another uplink stays so,
// also where a call is refused.
func TestUserspaceHookKeepsOthersNotes(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces("iface up1 inet dhcp\n\tmultihomed-fwmark 0x2006\n\tmultihomed-wireguard wg1\niface up2 inet dhcp\n\tmultihomed-fwmark 0x2005\n\tmultihomed-wireguard wg0\n")
	devices(t, l, 1, "wg0", "wg1")
	l.MustMH("sync")
	noneDue(t, l)
	l.Script("mkdir -p /run/wg-multihome/due; echo killed | tee /run/wg-multihome/due/wg0 >/run/wg-multihome/due/wg1")
	call := func(mark string) lab.Result {
		return l.Try([]string{"IFACE=up2", "FWMARK=" + mark, "TABLE_ID=3325256714"}, l.Binary, "hook")
	}
	oneLine(t, call("0x2007"), "0x2007")
	wantEqual(t, "due after a call that was refused", l.Run("ls", "/run/wg-multihome/due"), "wg0\nwg1\n")
	wantCode(t, call("0x2005"), 0)
	wantEqual(t, "due after the hook", l.Run("ls", "/run/wg-multihome/due"), "wg1\n")
	l.MustMH("sync")
	noneDue(t, l)
}

// TestSilentWhileTheAddressChanges has a device that does not answer when its
// uplink gets another address: it is refreshed once it does.
func TestSilentWhileTheAddressChanges(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(tunnelled)
	d := devices(t, l, 1, "wg0")[0]
	wantCode(t, l.Event(bound("BOUND", two4, "198.51.100.1")...), 0)
	d.silent.Store(true)
	l.Script("ip addr add 198.51.100.77/24 dev up2; ip addr del 198.51.100.10/24 dev up2; ip route replace default via 198.51.100.1 dev up2 metric 2")
	wantCode(t, l.Event(bound("RENEW", "198.51.100.77", "198.51.100.1")...), 1)
	l.WantSeen(lab.Far4, "", mark, "198.51.100.77")
	d.silent.Store(false)
	before := d.kicks.Load()
	l.MustMH("sync")
	if n := d.kicks.Load() - before; n != 1 {
		t.Errorf("%d kicks once it answers", n)
	}
	noneDue(t, l)
	l.MustMH("sync")
	if n := d.kicks.Load() - before; n != 1 {
		t.Errorf("%d kicks after another run", n)
	}
}

// TestUserspaceToldWhileLocked has another run hold the lock from the moment on when
// a BOUND was converged: what could not be refreshed then is by the next run.
func TestUserspaceToldWhileLocked(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(strings.Replace(tunnelled, "wg0", "wg0 wg1", 1))
	both := devices(t, l, 1, "wg0", "wg1")
	wantCode(t, l.Event(bound("BOUND", two4, "198.51.100.1")...), 0)
	// Who waits for the lock is woken, and the run may have it again before: on a busy
	// machine that is so in some of all cases.
	for tries := 0; !toldWhileLocked(t, l, both[1]); tries++ {
		if tries == 20 {
			t.Fatal("the lock was never held by another run")
		}
	}
	both[1].silent.Store(false)
	before := both[0].kicks.Load()
	l.MustMH("sync")
	if n := both[0].kicks.Load() - before; n != 1 {
		t.Errorf("%d kicks by the next run", n)
	}
	noneDue(t, l)
}

// toldWhileLocked has a device be silent, so that a run converges for a while,
// and reports whether it found the lock held afterwards.
func toldWhileLocked(t *testing.T, l *lab.Lab, d *userDevice) bool {
	t.Helper()
	d.silent.Store(true)
	ended := make(chan lab.Result)
	go func() { ended <- l.Event(bound("BOUND", two4, "198.51.100.1")...) }()
	lab.Until(t, "it converges", func() bool { return l.Try(nil, "flock", "-n", "/run/wg-multihome/lock", "true").Code != 0 })
	stop := l.Start(nil, "nice", "-n", "-20", "flock", "--no-fork", "/run/wg-multihome/lock", "sleep", "60")
	r := <-ended
	stop()
	wantCode(t, r, 1)
	return strings.Contains(r.Stderr, "refresh tunnels: /run/wg-multihome/lock: another run of wg-multihome holds the lock")
}

// TestUserspaceManyThatCannotBeMarked has devices that answer, but take no mark: they are
// waited for together.
func TestUserspaceManyThatCannotBeMarked(t *testing.T) {
	l := newLab(t)
	l.Static()
	names := []string{"wg0", "wg1", "wg2", "wg3", "wg4"}
	l.Interfaces(strings.Replace(tunnelled, "wg0", strings.Join(names, " "), 1))
	for _, d := range devices(t, l, 1, names...) {
		d.mark.Store("0")
		d.unset.Store(true)
	}
	since := time.Now()
	r := l.MH("sync")
	if took := time.Since(since); took > 5*time.Second+lab.Slack {
		t.Errorf("it took %s", took)
	}
	wantCode(t, r, 1)
	for _, name := range names {
		wantPart(t, "what is said", r.Stderr, `WireGuard device "`+name+`": no answer`)
	}
}
