//go:build guest

package e2e

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// watchUnit is the one that install writes.
const watchUnit = "wg-multihome-watch.service"

// watches shows that watch does its work in the sandbox of its unit: what others
// take is back, also after a kill, and what systemd says of the sandbox is no worse
// than it was.
func watches(t *testing.T, l *lab.Lab) {
	t.Helper()
	guard := lab.Contains(func() string { return l.Rules("-4") }, "fwmark 0x2005 unreachable")
	take := func(how string) {
		t.Helper()
		l.Script("ip rule delete fwmark 0x2005 unreachable")
		lab.Until(t, "the guard is back "+how, guard)
	}
	take("at first")
	l.Script("nft delete table inet wg_multihome")
	lab.Until(t, "the second lock is back", func() bool { return l.Try(nil, "nft", "list", "table", "inet", "wg_multihome").Code == 0 })
	systemctl(t, "kill", "--signal=KILL", watchUnit)
	take("after a kill")
	systemctl(t, "reload", watchUnit)
	take("after a reload")
	systemctl(t, "is-active", watchUnit)
	// Root, CAP_NET_ADMIN and CAP_SYS_ADMIN are most of what is left.
	out, err := exec.Command("systemd-analyze", "--no-pager", "--threshold=35", "security", watchUnit).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	t.Logf("%s", lines[len(lines)-1])
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}

// property is one of watch's unit.
func property(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("systemctl", "show", "-P", name, watchUnit).Output()
	fatal(t, err)
	return strings.TrimSpace(string(out))
}

// hooks shows that hooks write what the unit's sandbox forbids, in a cgroup that is not
// the unit's, whether there is a D-Bus or not. One that hangs does not keep watch from
// ending at once, which leaves all in place.
func hooks(t *testing.T, l *lab.Lab) {
	t.Helper()
	const said, hangs = "/usr/hook", "/run/hangs"
	written := []string{said, "/etc/hook", "/root/hook"}
	t.Cleanup(func() {
		for _, path := range append(written, hangs) {
			_ = os.Remove(path)
		}
	})
	machineFile(t, "/etc/dhcp/multihomed.d/writes", "#!/bin/sh\ntouch /etc/hook /root/hook\necho $IFACE $MULTIHOMED_NEW_ADDRESS $(cat /proc/self/cgroup) >/usr/hook\n[ ! -e /run/hangs ] || exec sleep 1000\n", 0o755)
	hook := func() string {
		text, _ := os.ReadFile(said)
		return string(text)
	}
	moves := func(from, to string) {
		t.Helper()
		l.Script("ip addr add " + to + "/24 dev up2; ip addr del " + from + "/24 dev up2; ip route replace default via 198.51.100.1 dev up2 metric 2")
		lab.Until(t, "the hook is told", lab.Contains(hook, "up2 "+to+" 0::/system.slice/"))
		wantNone(t, "the hook's cgroup", hook(), watchUnit)
		for _, path := range written {
			if err := os.Remove(path); err != nil {
				t.Errorf("the hook could not write: %v", err)
			}
		}
	}
	systemctl(t, "stop", "dbus.socket", "dbus.service")
	moves("198.51.100.10", "198.51.100.9")
	systemctl(t, "start", "dbus.service")
	fatal(t, os.WriteFile(hangs, nil, 0o644))
	moves("198.51.100.9", "198.51.100.10")
	settles(t, l)
	before, begun := l.State(), time.Now()
	systemctl(t, "stop", watchUnit)
	took := time.Since(begun)
	t.Logf("watch ended within %s", took)
	wantEqual(t, "how watch ended", property(t, "Result")+" "+property(t, "ExecMainStatus"), "success 0")
	if took > 15*time.Second { // of the hook's 20
		t.Errorf("watch ended within %s", took)
	}
	wantEqual(t, "state after its end", l.State(), before)
	settled(t, "run-*.service")
	fatal(t, os.RemoveAll("/etc/dhcp/multihomed.d"))
}

// readyOnceConverged starts watch while another run holds the lock: systemd takes it for
// started when the guard is there, and not before.
func readyOnceConverged(t *testing.T, l *lab.Lab) {
	t.Helper()
	lock, err := os.Open("/run/wg-multihome/lock")
	fatal(t, err)
	defer lock.Close()
	fatal(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	l.Script("ip rule delete fwmark 0x2005 unreachable")
	machineFile(t, "/run/systemd/system/"+watchUnit+".d/short.conf", "[Service]\nWatchdogSec=4\n", 0o644)
	systemctl(t, "daemon-reload")
	since := time.Now().Format(time.DateTime)
	start := exec.Command("systemctl", "start", watchUnit)
	fatal(t, start.Start())
	lab.Until(t, "watch waits for the lock", func() bool {
		said, _ := exec.Command("journalctl", "--no-pager", "--since", since, "-u", watchUnit).Output()
		return strings.Contains(string(said), "another run holds the lock")
	})
	wantEqual(t, "state of the unit", property(t, "ActiveState"), "activating")
	wantNone(t, "rules", l.Rules("-4"), "fwmark 0x2005 unreachable")
	fatal(t, lock.Close())
	fatal(t, start.Wait())
	wantPart(t, "rules once it is started", l.Rules("-4"), "fwmark 0x2005 unreachable")
	wantEqual(t, "state of the unit", property(t, "ActiveState"), "active")
}

// stoppedIsStartedAnew stops watch's process, as one that hangs: the watchdog finds
// that, and what was taken meanwhile is put back.
func stoppedIsStartedAnew(t *testing.T, l *lab.Lab) {
	t.Helper()
	before := mainPID(t)
	systemctl(t, "kill", "--signal=STOP", watchUnit)
	l.Script("ip rule delete fwmark 0x2005 unreachable")
	begun := time.Now()
	lab.Until(t, "the guard is back", lab.Contains(func() string { return l.Rules("-4") }, "fwmark 0x2005 unreachable"))
	t.Logf("the guard was back after %s", time.Since(begun))
	if mainPID(t) == before {
		t.Error("the process is the same: nothing is tested")
	}
	said, _ := exec.Command("journalctl", "--no-pager", "-u", watchUnit).Output()
	wantPart(t, "the journal", string(said), "Watchdog timeout")
}
