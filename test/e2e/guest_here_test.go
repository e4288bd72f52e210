//go:build guest

package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// pinnedHere is the configuration of most tests on the machine's own network.
const pinnedHere = "[uplink.up2]\nfwmark = 0x2005\n"

// here is a lab on the machine's own network, with the program where README puts
// it and nothing of it anywhere else. No other test runs beside it.
func here(t *testing.T) *lab.Lab {
	t.Helper()
	onMachine(t)
	installedHere(t)
	l := lab.Here(t, installed)
	t.Cleanup(func() {
		l.Try(nil, installed, "uninstall", "--force", "--purge")
		l.Script("systemctl reset-failed; ip rule flush; ip rule add priority 32766 lookup main; ip rule add priority 32767 lookup default")
	})
	return l
}

// mh runs the program on the machine; it must exit with 0.
func hereMH(t *testing.T, l *lab.Lab, args ...string) lab.Result {
	t.Helper()
	r := l.MH(args...)
	wantCode(t, r, 0)
	return r
}

// hereStatic has static addresses, a mark for up2 and further lines for it, and all
// that stands for it.
func hereStatic(t *testing.T, lines string) *lab.Lab {
	t.Helper()
	l := here(t)
	l.Static()
	machineFile(t, "/etc/wg-multihome.toml", pinnedHere+lines, 0o644)
	hereMH(t, l, "sync")
	return l
}

// settled stops a unit when the test ends.
func settled(t *testing.T, units ...string) {
	t.Helper()
	t.Cleanup(func() { _ = exec.Command("systemctl", append([]string{"stop"}, units...)...).Run() })
}

// TestSystemdInstall installs for real: units are enabled and run, a second run
// has nothing to do, systemd finds no fault with them, and what was there before is
// there again after uninstall.
func TestSystemdInstall(t *testing.T) {
	l := here(t)
	l.Static()
	machineFile(t, "/etc/wg-multihome.toml", pinnedHere, 0o644)
	list := func() []string {
		return strings.Fields(l.Script("find /etc /usr/lib/systemd /usr/lib/dhcpcd ! -name machine-id 2>/dev/null | sort"))
	}
	files, state := list(), l.State()
	r := hereMH(t, l, "install")
	for _, path := range []string{
		"/etc/dhcp/dhclient-exit-hooks.d/zz-wg-multihome", "/etc/NetworkManager/dispatcher.d/90-wg-multihome", "/etc/NetworkManager/dispatcher.d/pre-up.d/90-wg-multihome",
		"/etc/network/if-up.d/zz-wg-multihome", "/etc/ppp/ip-up.d/zz-wg-multihome", "/etc/systemd/system/wg-quick@.service.d/50-wg-multihome.conf", "/etc/systemd/system/wg-multihome.service",
	} {
		wantPart(t, "install", r.Stdout, "+ "+path+" (")
	}
	wantPart(t, "rules", l.Rules("-4"), "fwmark 0x2005 unreachable")
	l.WantSeen(lab.Far4, "", mark, two4)
	again := hereMH(t, l, "install")
	wantPart(t, "a second run", again.Stderr, "nothing to do")
	wantNone(t, "a second run", again.Stdout, "+ ")
	for _, unit := range installedUnits {
		systemctl(t, "is-enabled", unit)
		systemctl(t, "is-active", unit)
		if out, err := exec.Command("systemd-analyze", "verify", unit).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("systemd-analyze verify %s: %v\n%s", unit, err, out)
		}
	}
	t.Run("watch", func(t *testing.T) {
		watches(t, l)
		hooks(t, l)
		readyOnceConverged(t, l)
		stoppedIsStartedAnew(t, l)
	})
	// A unit that stopped is started, one that runs another program is started anew, and one that was changed is left alone.
	systemctl(t, "disable", "--now", "wg-multihome.service")
	wantPart(t, "install after a stop", hereMH(t, l, "install").Stderr, "= systemctl start wg-multihome.service")
	systemctl(t, "is-enabled", "wg-multihome.service")
	l.Script("cp " + installed + " /run/program; mv /run/program " + installed)
	wantPart(t, "install of another program", hereMH(t, l, "install").Stderr, "= systemctl restart wg-multihome-watch.service")
	un := hereMH(t, l, "uninstall", "--purge")
	wantPart(t, "uninstall", un.Stderr, "= systemctl disable --now wg-multihome.service")
	wantEqual(t, "files that are left", strings.Join(without(list(), files), " "), "")
	wantEqual(t, "files that went", strings.Join(without(files, list()), " "), "/etc/wg-multihome.toml")
	wantEqual(t, "state", l.State(), state)
	for _, unit := range installedUnits {
		if err := exec.Command("systemctl", "is-active", "--quiet", unit).Run(); err == nil {
			t.Errorf("%s is still active", unit)
		}
	}
	fatal(t, os.WriteFile("/etc/wg-multihome.toml", nil, 0o644)) // what machineFile has to remove
}

// settles waits until nothing is left to do, without a call that does it.
func settles(t *testing.T, l *lab.Lab) {
	t.Helper()
	lab.Until(t, "watch has done all", func() bool { return l.MH("plan", "--exit-code").Code == 0 })
}

// byMain restarts a service so many times, and returns how often what it sent
// first left by the other uplink.
func (s service) byMain(times int) (wrong int) {
	s.t.Helper()
	for range times {
		switch got := s.restart(); got {
		case one4:
			wrong++
		case two4:
		default:
			s.t.Errorf("far saw %q", got)
		}
	}
	return wrong
}

// TestSystemdRestarts restarts a service, beside watch fifty times: in a slice that is listed none of
// what it sends first leaves by main, whether watch runs or not. Listed by its own name
// each restart is a new cgroup, which has no mark before somebody has seen it.
func TestSystemdRestarts(t *testing.T) {
	l := hereStatic(t, `cgroups = ["wgmh-plain.service", "wgmhpinned.slice"]`+"\n")
	slice := newService(t, l, "wgmh-slice.service", "udp", "Slice=wgmhpinned.slice\n")
	slice.restart()
	hereMH(t, l, "sync")
	plain := newService(t, l, "wgmh-plain.service", "udp", "")
	for _, watch := range []bool{false, true} {
		times := 5
		if watch {
			times = 50
			hereMH(t, l, "install")
		}
		if n := slice.byMain(times); n != 0 {
			t.Errorf("watch %t: in a listed slice %d of %d restarts left by main", watch, n, times)
		}
		n := plain.byMain(times)
		t.Logf("watch %t: of a plain service %d of %d restarts left by main", watch, n, times)
		if !watch && n != times {
			t.Errorf("a plain service: %d of %d restarts left by main: the topic services says all do", n, times)
		}
	}
	// What a plain service sends once watch has seen it is pinned, without a call.
	const long = "wgmh-plain.service"
	machineFile(t, "/run/systemd/system/"+long, "[Service]\nExecStart=/bin/sleep infinity\n", 0o644)
	systemctl(t, "daemon-reload")
	settled(t, long)
	systemctl(t, "start", long)
	settles(t, l)
	wantPart(t, "status", squeeze(l.MustMH("status").Stdout), "system.slice/"+long+" up2 0x2005 pinned")
}

// TestSystemdNftablesReload has Debian's nftables.service flush the ruleset: what is
// pinned by rules stays pinned, and the next run, or watch, brings services' sets back.
func TestSystemdNftablesReload(t *testing.T) {
	l := hereStatic(t, "marking = \"packet\"\ncgroups = [\"wgmhpinned.slice\"]\n")
	machineFile(t, "/etc/nftables.conf", "#!/usr/sbin/nft -f\nflush ruleset\ntable inet filter { }\n", 0o755)
	settled(t, "nftables.service")
	slice := newService(t, l, "wgmh-slice.service", "udp", "Slice=wgmhpinned.slice\n")
	slice.restart()
	systemctl(t, "start", "nftables.service")
	for _, act := range []string{"start", "reload"} {
		if out := l.Try(nil, "nft", "list", "table", "inet", "wg_multihome"); out.Code == 0 {
			t.Errorf("%s left our table: nothing is tested", act)
		}
		l.WantSeen(lab.Far4, "", mark, two4)
		hereMH(t, l, "sync")
		wantEqual(t, "after "+act, slice.restart(), two4)
		noDrift(t, l)
		systemctl(t, "reload", "nftables.service")
	}
	hereMH(t, l, "install")
	for range 3 {
		systemctl(t, "reload", "nftables.service")
		settles(t, l)
		wantEqual(t, "after a reload beside watch", slice.restart(), two4)
	}
}

// onMachine ends the test on a machine that is not its own.
func onMachine(t *testing.T) {
	t.Helper()
	for _, path := range []string{"/run/systemd/system", "/run/vm-output"} {
		if _, err := os.Lstat(path); err != nil {
			t.Fatalf("this is not the machine of test/vm/run --systemd, and its files are not the test's: %v", err)
		}
	}
}

// TestTrixieNFTSet has systemd itself put a service into our set (NFTSet=, systemd
// 255 and later): over restarts nothing leaves by main, and after a flushed
// ruleset `sync` and daemon-reload put it back without a restart.
func TestTrixieNFTSet(t *testing.T) {
	l := hereStatic(t, "cgroups = []\n")
	_, set, _ := strings.Cut(docText(t, "[Unit]\nAfter=wg-multihome.service\n[Service]\nNFTSet="), "[Service]\n")
	s := newService(t, l, "wgmh-set.service", "udp", set)
	if n := s.byMain(lab.Rounds(50)); n != 0 {
		t.Errorf("%d restarts left by main", n)
	}
	const long = "wgmh-long.service"
	machineFile(t, "/run/systemd/system/"+long, "[Service]\nExecStart=/bin/sleep infinity\n"+set, 0o644)
	systemctl(t, "daemon-reload")
	settled(t, long)
	systemctl(t, "start", long)
	element := func(when string, want bool) {
		t.Helper()
		set := l.Try(nil, "nft", "list", "set", "inet", "wg_multihome", "mark_0x2005").Stdout
		if strings.Contains(set, long) != want {
			t.Errorf("%s: the element is there: %t, want %t\n%s", when, !want, want, set)
		}
	}
	element("after start", true)
	hereMH(t, l, "sync")
	element("after sync", true)
	l.Run("nft", "flush", "ruleset")
	hereMH(t, l, "sync")
	element("after a flush and sync", false)
	systemctl(t, "daemon-reload")
	element("after daemon-reload", true)
	wantEqual(t, "a restart after all that", s.restart(), two4)
	l.Run("nft", "flush", "ruleset")
	hereMH(t, l, "sync")
	wantEqual(t, "a restart after a flush and sync", s.restart(), two4)
	systemctl(t, "stop", long)
	element("after stop", false)
}
