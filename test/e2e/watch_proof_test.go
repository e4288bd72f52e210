package e2e

import (
	"fmt"
	"math/rand"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// flooded floods marked packets while something is done, and fails the test if one
// left by the other uplink.
func flooded(t *testing.T, l *lab.Lab, work func()) {
	t.Helper()
	sent(t, l.ISP1)
	stops := []func() int{l.Flood(lab.Far4, mark), l.Flood(lab.Far6, mark)}
	work()
	total := 0
	for _, stop := range stops {
		total += stop()
	}
	leaked := sent(t, l.ISP1)
	t.Logf("%d marked packets, %d by the other uplink", total, leaked)
	if total == 0 || leaked != 0 {
		t.Errorf("%d of %d marked packets left by the other uplink", leaked, total)
	}
}

// resources are what a process holds: descriptors, and resident memory in KiB.
func resources(t *testing.T, pid int) (descriptors, memory int) {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	_, _ = fmt.Sscan(after, &memory)
	return len(list), memory
}

// flat fails the test unless watch holds what it held before, but for some memory.
func flat(t *testing.T, pid, descriptors int) {
	t.Helper()
	const few, much = 4, 64 << 10 // a client that was opened meanwhile; a leak
	lab.Until(t, "descriptors are given back", func() bool {
		now, _ := resources(t, pid)
		return now <= descriptors+few
	})
	_, memory := resources(t, pid)
	t.Logf("%d MiB resident", memory>>10)
	if memory > much {
		t.Errorf("%d KiB are resident", memory)
	}
}

const deleteForEver = `while :; do ip rule del priority 32754 fwmark 0x2005 unreachable 2>/dev/null; done`

// TestWatchFight: another program deletes a guard for ever. It is named, it gets its
// way for a second at most, all else is put back at once, and nothing leaks.
func TestWatchFight(t *testing.T) {
	l, w := watched(t)
	right(t, l, "the start")
	before, _ := resources(t, w.PID())
	flooded(t, l, func() {
		stop := l.Start(nil, "sh", "-c", deleteForEver)
		lab.Until(t, "the fight is said", lab.Contains(w.Said, `"+ rule 4 32754 fwmark 0x2005 unreachable" is taken away again and again, by `))
		for range 3 {
			l.Script("ip rule del fwmark 0x1005 unreachable")
			lab.Until(t, "the other mark's guard is back", func() bool { return strings.Contains(l.Rules("-4"), "fwmark 0x1005 unreachable") })
		}
		stop()
		right(t, l, "the fight")
	})
	wantPart(t, "the log", w.Said(), "the second lock holds meanwhile")
	flat(t, w.PID(), before)
}

// TestWatchFlap: a link goes and comes again and again, and with it what the kernel and
// watch itself take away: that is no fight, so each time all is put back at once.
func TestWatchFlap(t *testing.T) {
	l, w := watched(t)
	right(t, l, "the start")
	flooded(t, l, func() {
		l.Script(`for i in 1 2 3 4 5 6 7 8; do
	ip link set up2 down; ip link set up2 up; ip route replace default via 198.51.100.1 dev up2 metric 2
	ip -6 addr replace 2001:db8:2::10/64 dev up2 nodad; ip -6 route replace default via 2001:db8:2::1 dev up2 metric 2
done`)
		right(t, l, "the flaps")
	})
	wantNone(t, "the log", w.Said(), "again and again")
}

// TestWatchStorm: more events than can be looked at, of what matters and of what
// does not. The end is right, and nothing is gathered.
func TestWatchStorm(t *testing.T) {
	l, w := watched(t)
	right(t, l, "the start")
	before, _ := resources(t, w.PID())
	flooded(t, l, func() {
		l.Script(`for i in $(seq 1 3000); do
	echo "route add blackhole 20.0.$((i/256)).$((i%256)) table 900"
	echo "rule add priority 40000 to 20.0.$((i/256)).$((i%256)) lookup main"
	echo "rule del priority 40000"
	echo "addr add 10.77.$((i/256)).$((i%256))/32 dev lo"
	echo "addr del 10.77.$((i/256)).$((i%256))/32 dev lo"
done | ip -batch -
ip rule del fwmark 0x2005 unreachable; nft flush ruleset`)
		right(t, l, "the storm")
	})
	flat(t, w.PID(), before)
}

// TestWatchKilled: watch is killed at any moment, and started again, while others
// delete what is ours. The second lock is left to it.
func TestWatchKilled(t *testing.T) {
	l, w := watched(t)
	right(t, l, "the start")
	const seed = 20261129
	random := rand.New(rand.NewSource(seed))
	others := []string{
		"ip rule del fwmark 0x2005 unreachable", "ip rule del fwmark 0x2005 lookup 3325256714",
		"ip rule flush; ip -6 rule flush; ip rule add priority 32766 lookup main; ip -6 rule add priority 32766 lookup main",
		"ip route flush table 3325256714", "ip addr add 198.51.100.44/24 dev up2", "ip addr del 198.51.100.44/24 dev up2",
	}
	flooded(t, l, func() {
		for range 12 {
			stop := l.Start(nil, "sh", "-c", others[random.Intn(len(others))])
			time.Sleep(time.Duration(random.Intn(8000)) * time.Microsecond)
			w.Signal(syscall.SIGKILL)
			w.Wait()
			stop()
			w = l.Watch("--config", namedFile)
		}
		right(t, l, "the kills")
	})
}

// TestWatchTunnelDown: `wg-quick down` of a full tunnel deletes our suppress rules by
// a wildcard until its own is gone. It comes to its end, and ours are back.
func TestWatchTunnelDown(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(tunnelled)
	q := newQuick(t, l, 0, "0.0.0.0/0, ::/0")
	q.write()
	w := l.Watch()
	for range 2 {
		q.do(t, "up")
		// Where watch has pinned the device before wg-quick chooses, its mark is the table.
		lab.Until(t, "it is a full tunnel", func() bool {
			return strings.Contains(l.Rules("-4"), "not from all fwmark "+q.mark()+" ") && l.MH("plan", "--exit-code").Code == 0
		})
		q.from(t, two4)
		q.do(t, "down")
		lab.Until(t, "all is as is wanted", func() bool { return l.MH("plan", "--exit-code").Code == 0 })
		wantNone(t, "rules", l.Rules("-4"), "not from all")
	}
	wantPart(t, "the log", w.Said(), "suppress_prefixlength 0")
	noSpoof(t, l)
}

// TestWatchMarkTakenOff: `wg set wg0 fwmark off` makes no event.
func TestWatchMarkTakenOff(t *testing.T) {
	l := newLab(t)
	l.Static()
	hostConfig, farConfig := peers(t)
	far := l.Tunnel(l.Far, "wg0", farConfig)
	host := l.Tunnel(l.Namespace, "wg0", hostConfig)
	l.Script("ip addr add 10.200.0.1/24 dev wg0; ip link set wg0 up")
	l.Interfaces("iface up2 inet dhcp\n\tmultihomed-fwmark 0x2005\n\tmultihomed-wireguard wg0\n")
	l.Watch()
	for range 3 {
		lab.Until(t, "far sees the second uplink", func() bool { return strings.HasPrefix(far.Get("endpoint"), two4+":") })
		l.Script("wg set wg0 fwmark off")
		lab.Until(t, "the mark is back", func() bool { return host.Get("fwmark") == "8197" })
	}
	noDrift(t, l)
}

// TestWatchHook: a guard that is deleted while a hook sleeps is back before the hook
// is done; an address that comes back at once is not told.
func TestWatchHook(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Write("/etc/dhcp/multihomed.d/slow", "#!/bin/sh\necho \"$IFACE $MULTIHOMED_FAMILY $MULTIHOMED_EVENT $MULTIHOMED_NEW_ADDRESS\" >>/run/told\nwhile [ -e /run/slow ]; do sleep 0.02; done\n", 0o755)
	l.Watch("--config", l.TOML("[uplink.up2]\nfwmark = 0x2005\n"))
	told := func() string { return l.Read("/run/told") }
	lab.Until(t, "the uplinks are told", func() bool { return strings.Count(told(), "\n") == 4 })
	l.Script(": >/run/slow; ip addr add 198.51.100.9/24 dev up2; ip addr del 198.51.100.10/24 dev up2; ip route replace default via 198.51.100.1 dev up2 metric 2")
	lab.Until(t, "the hook sleeps", lab.Contains(told, "up2 4 change 198.51.100.9"))
	l.Script("ip rule del fwmark 0x2005 unreachable")
	lab.Until(t, "the guard is back", func() bool { return strings.Contains(l.Rules("-4"), "fwmark 0x2005 unreachable") })
	l.Script("rm /run/slow")
	within := 0 // moments that were too short to be told (100 ms are): a busy machine makes longer ones
	for range 100 {
		before, began := told(), time.Now()
		l.Script(`printf '%s\n' 'addr add 198.51.100.77/24 dev up2' 'addr del 198.51.100.9/24 dev up2' 'addr add 198.51.100.9/24 dev up2' \
			'addr del 198.51.100.77/24 dev up2' 'route replace default via 198.51.100.1 dev up2 metric 2' | ip -batch -`)
		took := time.Since(began)
		right(t, l, "that")
		if took > 70*time.Millisecond {
			continue
		}
		if later := strings.TrimPrefix(told(), before); strings.Contains(later, "77") {
			t.Errorf("an address that was there for a moment is told:\n%s", later)
		}
		if within++; within == 3 {
			return
		}
	}
	t.Error("no three moments were short")
}

// TestWatchWithoutRoom: STATE-DIR's disk is full, and then another one is mounted in
// its place. Rules are put back all the same.
func TestWatchWithoutRoom(t *testing.T) {
	l, w := watched(t)
	right(t, l, "the start")
	guard := func(what string) {
		t.Helper()
		l.Script("ip rule del fwmark 0x2005 unreachable")
		lab.Until(t, "the guard is back with "+what, func() bool { return strings.Contains(l.Rules("-4"), "fwmark 0x2005 unreachable") })
	}
	l.Script("mount -t tmpfs -o size=4k none /run/wg-multihome; head -c 4096 /dev/zero >/run/wg-multihome/full")
	guard("a full disk")
	l.Script("umount -l /run/wg-multihome; mount -t tmpfs none /run/wg-multihome")
	guard("another disk")
	l.Script("umount -l /run/wg-multihome; rm -r /run/wg-multihome")
	guard("none")
	w.Signal(syscall.SIGHUP)
	right(t, l, "all of it")
}

// locked reports whether both locks of mark 0x2005 stand.
func locked(l *lab.Lab) bool {
	for _, family := range []string{"-4", "-6"} {
		if !strings.Contains(l.Rules(family), "fwmark 0x2005 unreachable") {
			return false
		}
	}
	return l.Try(nil, "nft", "list", "chain", "inet", "wg_multihome", "lock_0x2005").Code == 0
}

// TestWatchDay: what happens on a host in a day, in a script from a seed, with marked
// packets all the while.
func TestWatchDay(t *testing.T) {
	l, w := watched(t)
	right(t, l, "the start")
	before, _ := resources(t, w.PID())
	const seed = 14
	random := rand.New(rand.NewSource(seed))
	events := []string{
		"ip rule del fwmark 0x2005 unreachable || :",
		"ip -6 rule del fwmark 0x1005 lookup main suppress_prefixlength 0 || :",
		"ip rule flush; ip rule add priority 32766 lookup main || :",
		"ip -6 rule flush; ip -6 rule add priority 32766 lookup main || :",
		"nft flush ruleset",
		"ip route flush table 3325256714 || :; ip -6 route flush table 3919028321 || :",
		"ip addr replace 198.51.100.55/24 dev up2", "ip addr del 198.51.100.55/24 dev up2 || :",
		"ip link set up2 down; ip link set up2 up; ip route replace default via 198.51.100.1 dev up2 metric 2; ip -6 addr replace 2001:db8:2::10/64 dev up2 nodad; ip -6 route replace default via 2001:db8:2::1 dev up2 metric 2",
		"ip route replace default via 198.51.100.7 dev up2 metric 2; ip route replace default via 198.51.100.1 dev up2 metric 2",
		"ip route replace default dev up1 table 51820; ip rule add not fwmark 0xca6c lookup 51820 || :; ip rule del not fwmark 0xca6c lookup 51820 || :",
		"ip link set up2 group 0",
		"echo 'broken = [' >/run/wg-multihome.toml", "rm -f /run/wg-multihome.toml", "printf '[uplink.up1]\\nfwmark = 0x1005\\n[uplink.up2]\\nfwmark = 0x2005\\n' >/run/wg-multihome.toml",
		"ip route add blackhole 20.0.0.0/24 table 900 || ip route flush table 900",
	}
	flooded(t, l, func() {
		for range 120 {
			event := events[random.Intn(len(events))]
			if strings.Contains(event, "rule") {
				// Who takes both locks away within a few milliseconds has both.
				lab.Until(t, "both locks stand", func() bool { return locked(l) })
			}
			l.Script(event)
			if random.Intn(30) == 0 {
				w.Signal(syscall.SIGHUP)
			}
		}
		l.TOML("[uplink.up1]\nfwmark = 0x1005\n[uplink.up2]\nfwmark = 0x2005\n")
		right(t, l, "a day")
	})
	flat(t, w.PID(), before)
}

// TestWatchCgroupAnew: a service's cgroup is made anew, and pinned again.
func TestWatchCgroupAnew(t *testing.T) {
	l := newLab(t)
	c := l.Cgroups()
	l.Static()
	const service = "system.slice/x.service"
	for _, marking := range []string{"socket", "packet"} {
		w := l.Watch("--config", l.TOML("marking = \""+marking+"\"\n[uplink.up2]\nfwmark = 0x2005\ncgroups = [\"x.service\"]\n"))
		for range 3 {
			c.Make(service)
			lab.Until(t, "the service is pinned by "+marking, func() bool {
				return l.Ask(lab.Query{Network: "udp", Far: lab.Far4, Cgroup: service}) == two4
			})
			c.Kill(service)
			c.Remove(service)
		}
		right(t, l, "that")
		w.Signal(syscall.SIGTERM)
		w.Wait()
	}
}
