package e2e

import (
	"fmt"
	"math/rand"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// runLab is a lab with cgroups of its own, where commands can be run on up2.
func runLab(t *testing.T) (*lab.Lab, lab.Cgroups) {
	t.Helper()
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	return l, l.Cgroups()
}

const runSlice = "wgmultihome.slice\nwgmultihome.slice/wgmultihome-0x2005_up2.slice\n"

// runs runs a command on up2.
func runs(l *lab.Lab, command ...string) lab.Result {
	return l.MH(append([]string{"run", "up2", "--"}, command...)...)
}

var scope = regexp.MustCompile(`(?m)^0::(/.*/wgmultihome\.slice/wgmultihome-0x2005_up2\.slice/run-[0-9]+-[0-9a-f]+\.scope)$`)

func TestRunInACgroupOfItsOwn(t *testing.T) {
	l, cgroups := runLab(t)
	r := runs(l, "cat", "/proc/self/cgroup")
	wantCode(t, r, 0)
	m := scope.FindStringSubmatch(r.Stdout)
	if m == nil || !strings.HasPrefix(m[1], cgroups.Root+"/") {
		t.Errorf("the command was in\n%s", r.Stdout)
	}
	// What pins it stood before it began.
	r = runs(l, "ip", "rule")
	wantPart(t, "rules that the command saw", r.Stdout, "fwmark 0x2005 unreachable")
	wantEqual(t, "cgroups afterwards", cgroups.List(), runSlice)
}

// TestRunIsPinned has the command's first packet, and that of what it starts,
// leave by the uplink, and the table be as before afterwards.
func TestRunIsPinned(t *testing.T) {
	eachWay(t, func(t *testing.T, w *caseLab) {
		l := w.Lab
		w.pin("")
		l.MustMH("sync")
		before := l.Run("nft", "list", "table", "inet", "wg_multihome")
		for _, command := range [][]string{
			{l.Binary, "run", "up2", "--"},
			{l.Binary, "run", "up2", "--", "sh", "-c", `"$0" "$@" & wait`},
		} {
			for _, network := range []string{"udp", "tcp"} {
				for far, seen := range map[string]string{lab.Far4: two4, lab.Far6: two6} {
					if got := l.AskBy(command, lab.Query{Network: network, Far: far}); got != seen {
						t.Errorf("%v: %s to %s: far saw %q, want %q", command, network, far, got, seen)
					}
				}
			}
		}
		wantEqual(t, "table afterwards", l.Run("nft", "list", "table", "inet", "wg_multihome"), before)
		noDrift(t, l)
		noSpoof(t, l)
	})
}

func TestRunPassesThrough(t *testing.T) {
	l, cgroups := runLab(t)
	for status, script := range map[int]string{0: "exit 0", 1: "exit 1", 77: "exit 77", 255: "exit 255", 128 + 15: "kill -TERM $$", 128 + 9: "kill -KILL $$"} {
		wantCode(t, runs(l, "sh", "-c", script), status)
	}
	wantCode(t, runs(l, "no-such-command"), 127)
	wantCode(t, runs(l, "/no/such/command"), 127)
	wantCode(t, runs(l, "/etc/passwd"), 126)
	wantCode(t, runs(l, "/etc"), 126)
	l.Write("/run/script", "#!/no/such/interpreter\n", 0o755)
	wantCode(t, runs(l, "/run/script"), 127)
	// Options of the command are its own, and so is a --hook.
	wantEqual(t, "arguments", runs(l, "printf", "<%s>", "--user", "-v", "--", "", "a b", "\xff$PATH%i").Stdout, "<--user><-v><--><><a b><\xff$PATH%i>")
	wantCode(t, runs(l, "sh", "-c", "exit 3", "sync", "--hook"), 3)
	r := l.Try([]string{"A=\xfe\nb", "SYSTEMD_LOG_LEVEL=debug"}, l.Binary, "run", "up2", "--", "env", "-0")
	wantEqual(t, "environment", r.Stdout, "PATH=/usr/sbin:/usr/bin:/sbin:/bin\x00A=\xfe\nb\x00SYSTEMD_LOG_LEVEL=debug\x00")
	// Files that the caller opened are the command's, and no others.
	files := []string{"sh", "-c", `cd /run; echo three >three; exec 3<three 4<three 5<&-; exec "$@" sh -c "cat <&3; pwd; ls /proc/self/fd"`, "-"}
	r = l.Try(nil, append(files, l.Binary, "run", "up2", "--")...)
	wantEqual(t, "files", r.Stdout, l.Run(append(files, "env")...))
	wantEqual(t, "cgroups afterwards", cgroups.List(), runSlice)
}

// ann is a user of the lab.
func ann(l *lab.Lab) {
	l.Write("/run/passwd", "root:x:0:0:root:/root:/bin/bash\nann:x:4711:4712:Ann:/home/ann:/bin/dash\n", 0o644)
	l.Write("/run/group", "root:x:0:\nann:x:4712:\nnet:x:4713:ann,root\nplug:x:4714:ann\n", 0o644)
	l.Script("mount --bind /run/passwd /etc/passwd; mount --bind /run/group /etc/group")
}

func TestRunAsUser(t *testing.T) {
	l, _ := runLab(t)
	ann(l)
	as := func(command ...string) lab.Result {
		return l.Try([]string{"HOME=/root", "USER=root", "SECRET=word", "LD_PRELOAD=", "TERM=dumb", "LANG=C", "LC_ALL=C.UTF-8"}, append([]string{l.Binary, "run", "--user", "ann", "up2", "--"}, command...)...)
	}
	wantEqual(t, "id", as("id").Stdout, "uid=4711(ann) gid=4712(ann) groups=4712(ann),4713(net),4714(plug)\n")
	wantEqual(t, "environment", as("env").Stdout, "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nTERM=dumb\nLANG=C\nLC_ALL=C.UTF-8\nHOME=/home/ann\nUSER=ann\nLOGNAME=ann\nSHELL=/bin/dash\n")
	for _, part := range []string{"Uid:\t4711\t4711\t4711\t4711", "Gid:\t4712\t4712\t4712\t4712", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000"} {
		wantPart(t, "privileges", as("cat", "/proc/self/status").Stdout, part)
	}
	if scope.FindString(as("cat", "/proc/self/cgroup").Stdout) == "" {
		t.Error("a user's command is not in its cgroup")
	}
	l.Write("/run/private", "#!/bin/sh\n", 0o700)
	wantCode(t, as("/run/private"), 126)
	r := l.MH("run", "--user", "nobody-here", "up2", "--", "touch", "/run/started")
	wantCode(t, r, 1)
	wantPart(t, "message", r.Stderr, "nobody-here")
	wantEqual(t, "started", l.Read("/run/started"), "")
}

// TestRunRefuses starts no command that could not be pinned.
func TestRunRefuses(t *testing.T) {
	l, cgroups := runLab(t)
	l.Interfaces(pinned + "iface up1 inet static\n gateway 192.0.2.1\niface up3 inet dhcp\n multihomed-fwmark 3\n")
	refused := func(code int, say string, args ...string) {
		t.Helper()
		r := l.MH(append(append([]string{"run"}, args...), "touch", "/run/started")...)
		wantCode(t, r, code)
		wantPart(t, "message", r.Stderr, say)
		if out := l.Script("ls /run"); strings.Contains(out, "started") {
			t.Fatalf("%v: the command was started", args)
		}
	}
	refused(1, `uplink "up1" has no mark`, "up1", "--")
	refused(1, `uplink "up3" is not there`, "up3", "--")
	refused(1, `"eth9" is no uplink: there are up1, up2, up3`, "eth9", "--")
	refused(1, `"" is no uplink`, "", "--")
	refused(2, "is missing: run [flags] UPLINK -- COMMAND", "up2")
	refused(2, "is missing: run [flags] UPLINK -- COMMAND", "--")
	refused(2, "is missing: run [flags] UPLINK -- COMMAND", "up2", "--user", "root", "--")
	refused(2, "bogus", "--bogus", "up2", "--")
	refused(2, "--user is empty", "--user", "", "up2", "--") // not as root
	refused(2, "--user is empty", "--user=", "up2", "--")
	wantCode(t, l.MH("run", "up2", "--"), 2)
	l.Script("ip link set up2 down")
	refused(1, `uplink "up2" is down`, "up2", "--")
	l.Script("ip addr flush dev up2; ip link set up2 up")
	refused(1, `uplink "up2" has no address`, "up2", "--")
	l.Script("ip addr add 198.51.100.10/24 dev up2")
	refused(1, `uplink "up2" has no gateway`, "up2", "--")
	l.Interfaces(pinned + " multihomed-gateway 198.51.100.1\niface up3 inet dhcp\n multihomed-fwmark 0x2005\n")
	refused(1, "is no uplink", "up9", "--")
	refused(1, `"up2"`, "up2", "--") // two claim its mark
	r := l.Try(nil, "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", l.Binary, "run", "up2", "--", "touch", "/run/started")
	wantCode(t, r, 1)
	wantEqual(t, "cgroups", cgroups.List(), "")
}

// TestRunWithoutCgroup2 says so.
func TestRunWithoutCgroup2(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.Script("umount -l $(findmnt -n -l -o TARGET -t cgroup2 | tac)")
	r := runs(l, "touch", "/run/started")
	wantCode(t, r, 1)
	wantPart(t, "message", r.Stderr, "cgroup2")
}

// TestRunLeavesGrandchildren: what lives on keeps its cgroup, and a later run
// removes it.
func TestRunLeavesGrandchildren(t *testing.T) {
	l, cgroups := runLab(t)
	wantCode(t, runs(l, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & exit 5"), 5)
	left := strings.TrimPrefix(cgroups.List(), runSlice)
	if strings.Count(left, "\n") != 1 {
		t.Fatalf("left cgroups:\n%s", left)
	}
	wantCode(t, runs(l, "true"), 0)
	wantEqual(t, "cgroups while it lives", cgroups.List(), runSlice+left)
	cgroups.Kill(strings.TrimSpace(left))
	wantCode(t, runs(l, "true"), 0)
	wantEqual(t, "cgroups after its end", cgroups.List(), runSlice)
	// And so does sync: who pins nothing pays for no conntrack.
	wantCode(t, runs(l, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & exit 5"), 5)
	left = strings.TrimPrefix(cgroups.List(), runSlice)
	l.MustMH("sync")
	wantEqual(t, "cgroups while it lives, after sync", cgroups.List(), runSlice+left)
	cgroups.Kill(strings.TrimSpace(left))
	l.MustMH("sync", "--hook")
	wantEqual(t, "cgroups after its end and sync", cgroups.List(), runSlice)
	noDrift(t, l)
}

// TestRunKilled kills it, at some moment or other: either the command runs in
// its cgroup, with its guards, or it was never started.
func TestRunKilled(t *testing.T) {
	l, cgroups := runLab(t)
	l.Write("/run/command", "#!/bin/sh\necho $(grep ^0:: /proc/self/cgroup; ip rule list fwmark 0x2005) >>/run/started\n", 0o755)
	const seed = 20261125
	random := rand.New(rand.NewSource(seed))
	begun := time.Now()
	wantCode(t, runs(l, "true"), 0)
	whole := time.Since(begun)
	killed, started := 0, 0
	for range 60 {
		l.Script("ip rule flush; ip rule add pref 32766 lookup main; ip -6 rule flush; ip -6 rule add pref 32766 lookup main")
		l.Write("/run/started", "", 0o644)
		if runKilled(t, l, time.Duration(random.Float64()*1.5*float64(whole)), "run", "up2", "--", "/run/command") {
			killed++
		}
		lab.Until(t, "all processes end", func() bool { return cgroups.Empty("") })
		if said := l.Read("/run/started"); said != "" {
			started++
			if !scope.MatchString(strings.ReplaceAll(said, " ", "\n")) || !strings.Contains(said, "fwmark 0x2005 unreachable") {
				t.Errorf("a command ran with %q", said)
			}
		}
	}
	t.Logf("%d of 60 killed (seed %d), %d commands started", killed, seed, started)
	if killed == 0 || started == 0 || started == 60 {
		t.Error("nothing was proved")
	}
	wantCode(t, runs(l, "true"), 0)
	wantEqual(t, "cgroups afterwards", cgroups.List(), runSlice)
}

// waiting starts a run that has its process in place, and waits for the lock,
// which the test holds.
func waiting(t *testing.T, l *lab.Lab, cgroups lab.Cgroups) (h holder, unlock func()) {
	t.Helper()
	l.MustMH("sync")
	unlock = l.Start(nil, "flock", "--no-fork", "/run/wg-multihome/lock", "sleep", "60")
	lab.Until(t, "the lock is held", func() bool {
		return l.Try(nil, "flock", "--nonblock", "/run/wg-multihome/lock", "true").Code != 0
	})
	h = hold(t, l, l.Binary, "run", "up2", "--", "touch", "/run/started")
	lab.Until(t, "a process is in place", func() bool { return !cgroups.Empty("") })
	return h, unlock
}

// TestRunIsKilledBeforehand ends the one or the other while the process waits
// in its place: the command is not started.
func TestRunIsKilledBeforehand(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(h holder, cgroups lab.Cgroups)
		status int
	}{
		"killed":                 {func(h holder, _ lab.Cgroups) { h.signal(syscall.SIGKILL) }, -1},
		"ended":                  {func(h holder, _ lab.Cgroups) { h.signal(syscall.SIGTERM) }, 1},
		"the process was killed": {func(_ holder, c lab.Cgroups) { c.Kill("") }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l, cgroups := runLab(t)
			h, unlock := waiting(t, l, cgroups)
			c.end(h, cgroups)
			unlock()
			if status := h.status(); status != c.status {
				t.Errorf("exit status %d, want %d\n%s", status, c.status, h.said)
			}
			lab.Until(t, "the process ends", func() bool { return cgroups.Empty("") })
			wantNone(t, "files", l.Script("ls /run"), "started")
			wantCode(t, runs(l, "true"), 0)
			wantEqual(t, "cgroups afterwards", cgroups.List(), runSlice)
		})
	}
}

// TestRunsSideBySide make and remove cgroups in one slice at once.
func TestRunsSideBySide(t *testing.T) {
	l, cgroups := runLab(t)
	l.MustMH("sync")
	r := l.Try(nil, "sh", "-c", `for i in 1 2 3 4 5 6; do (for j in 1 2 3 4; do "$1" run up2 -- sh -c "exit $i" 2>>/run/said; echo $i $?; done) & done; wait`, "-", l.Binary)
	counts := map[string]int{}
	for _, line := range strings.Split(strings.TrimSpace(r.Stdout), "\n") {
		counts[line]++
	}
	for i := 1; i <= 6; i++ {
		if counts[fmt.Sprintf("%d %d", i, i)] != 4 {
			t.Fatalf("statuses: %v\n%s", counts, l.Read("/run/said"))
		}
	}
	wantEqual(t, "cgroups afterwards", cgroups.List(), runSlice)
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
