package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

const runSlice = "wgmultihome.slice\nwgmultihome.slice/wgmultihome-0x2005.slice\n"

// runs runs a command on up2.
func runs(l *lab.Lab, command ...string) lab.Result {
	return l.MH(append([]string{"run", "up2", "--"}, command...)...)
}

var scope = regexp.MustCompile(`(?m)^0::(/.*/wgmultihome\.slice/wgmultihome-0x2005\.slice/run-[0-9]+-[0-9a-f]+\.scope)$`)

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
	l, _ := runLab(t)
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
}

func TestRunPassesThrough(t *testing.T) {
	l, cgroups := runLab(t)
	for status, script := range map[int]string{0: "exit 0", 1: "exit 1", 77: "exit 77", 255: "exit 255", 128 + 15: "kill -TERM $$", 128 + 9: "kill -KILL $$"} {
		wantCode(t, runs(l, "sh", "-c", script), status)
	}
	wantCode(t, runs(l, "no-such-command"), 127)
	wantCode(t, runs(l, "/no/such/command"), 127)
	wantCode(t, runs(l, "/etc/passwd"), 126)
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

// holder is a command that runs in the lab until it is told to end.
type holder struct {
	t    *testing.T
	cmd  *exec.Cmd
	said *bytes.Buffer
}

// hold starts one in a session of its own, as without a terminal.
func hold(t *testing.T, l *lab.Lab, args ...string) holder {
	t.Helper()
	h := holder{t, l.Command(context.Background(), nil, args...), &bytes.Buffer{}}
	h.cmd.Stderr = h.said
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	fatal(t, h.cmd.Start())
	t.Cleanup(func() { _ = h.cmd.Process.Kill(); _ = h.cmd.Wait() })
	return h
}

func (h holder) signal(s syscall.Signal) {
	h.t.Helper()
	if err := h.cmd.Process.Signal(s); err != nil {
		h.t.Error(err)
	}
}

// status waits for the end.
func (h holder) status() int {
	h.t.Helper()
	done := make(chan struct{})
	go func() { _ = h.cmd.Wait(); close(done) }()
	lab.Until(h.t, "the end of it\n"+h.said.String(), func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	return h.cmd.ProcessState.ExitCode()
}

func TestRunPassesSignalsOn(t *testing.T) {
	l, cgroups := runLab(t)
	h := hold(t, l, l.Binary, "run", "up2", "--", "sh", "-c", `
for s in INT HUP QUIT USR1 USR2 WINCH; do trap "echo $s >>/run/got" $s; done
trap "echo TERM >>/run/got; exit 9" TERM
echo ready >>/run/got
while :; do sleep 0.02; done`)
	want := "ready\n"
	got := func() bool { return l.Read("/run/got") == want }
	lab.Until(t, "the command runs", got)
	for _, s := range []struct {
		name   string
		signal syscall.Signal
	}{{"INT", syscall.SIGINT}, {"HUP", syscall.SIGHUP}, {"QUIT", syscall.SIGQUIT}, {"USR1", syscall.SIGUSR1}, {"USR2", syscall.SIGUSR2}, {"WINCH", syscall.SIGWINCH}, {"TERM", syscall.SIGTERM}} {
		h.signal(s.signal)
		want += s.name + "\n"
		lab.Until(t, "the command gets "+s.name, got)
	}
	if status := h.status(); status != 9 {
		t.Errorf("exit status %d, want 9", status)
	}
	h = hold(t, l, l.Binary, "run", "up2", "--", "sh", "-c", "echo again >>/run/got; exec sleep 100")
	want += "again\n"
	lab.Until(t, "the command runs", got)
	h.signal(syscall.SIGTERM)
	if status := h.status(); status != 128+15 {
		t.Errorf("exit status %d, want 143", status)
	}
	wantEqual(t, "cgroups afterwards", cgroups.List(), runSlice)
}

// TestRunIgnoresWhatItsCallerIgnores, as nohup(1) has it.
func TestRunIgnoresWhatItsCallerIgnores(t *testing.T) {
	l, _ := runLab(t)
	r := l.Try(nil, "sh", "-c", `trap "" HUP INT; exec "$@"`, "-", l.Binary, "run", "up2", "--", "sh", "-c", "kill -HUP $$; kill -INT $$; grep SigIgn /proc/$$/status")
	wantCode(t, r, 0)
	wantPart(t, "ignored signals", r.Stdout, "0000000000000003")
	wantPart(t, "ignored signals of others", runs(l, "grep", "SigIgn", "/proc/self/status").Stdout, "0000000000000000")
}

// startInTerminal starts a command in the lab, as the leader of a session in a
// new terminal. It returns what to type with, and what is shown.
func startInTerminal(t *testing.T, l *lab.Lab, args ...string) (cmd *exec.Cmd, keys func(string), shown *transcript) {
	t.Helper()
	pty, terminal := openTerminal(t)
	defer terminal.Close()
	cmd = l.Command(context.Background(), nil, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	fatal(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	shown = &transcript{}
	go func() { _, _ = io.Copy(shown, pty) }()
	keys = func(s string) {
		t.Helper()
		_, err := io.WriteString(pty, s)
		fatal(t, err)
	}
	return cmd, keys, shown
}

// TestRunInATerminal: the command is in the terminal's foreground, and is
// interrupted, stopped and continued with us.
func TestRunInATerminal(t *testing.T) {
	l, cgroups := runLab(t)
	l.Write("/run/command", `#!/bin/sh
trap 'echo interrupted' INT
ps -o stat= -p $$ | grep -q + && echo in the foreground
until [ "$line" ]; do read line; done
echo read $line
exit 6
`, 0o755)
	// The shell has it in a process group of its own, as an interactive one.
	cmd, keys, shown := startInTerminal(t, l, "sh", "-mc", `"$@"; echo stopped $?; fg; echo ended $?`, "-", l.Binary, "run", "up2", "--", "/run/command")
	lab.Until(t, "the command begins", lab.Contains(shown.String, "in the foreground"))
	keys("\x03")
	lab.Until(t, "an interrupt", lab.Contains(shown.String, "interrupted"))
	keys("\x1a")
	lab.Until(t, "both are stopped, so the shell goes on, and continues them", lab.Contains(shown.String, "stopped 148"))
	keys("words\n")
	lab.Until(t, "the command reads", lab.Contains(shown.String, "read words"))
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, shown)
	}
	lab.Until(t, "its exit status", lab.Contains(shown.String, "ended 6"))
	wantEqual(t, "cgroups afterwards", cgroups.List(), runSlice)
}

// TestRunDoesNotRepeatKeys: a command that has left the terminal, where it
// would have got the key itself, gets other signals alone.
func TestRunDoesNotRepeatKeys(t *testing.T) {
	l, _ := runLab(t)
	l.Write("/run/command", `#!/bin/sh
trap 'echo INT >>/run/got' INT
trap 'echo USR1 >>/run/got' USR1
trap 'echo TERM >>/run/got; exit 0' TERM
echo ready >>/run/got
while :; do sleep 0.02; done
`, 0o755)
	cmd, keys, shown := startInTerminal(t, l, l.Binary, "run", "up2", "--", "setsid", "/run/command")
	got := func(want string) func() bool { return func() bool { return l.Read("/run/got") == want } }
	lab.Until(t, "the command runs", got("ready\n"))
	keys("\x03")
	lab.Until(t, "the terminal sends an interrupt", lab.Contains(shown.String, "^C"))
	for _, s := range []os.Signal{syscall.SIGUSR1, syscall.SIGTERM} {
		before := l.Read("/run/got")
		fatal(t, cmd.Process.Signal(s))
		lab.Until(t, "a signal", func() bool { return l.Read("/run/got") != before })
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	wantEqual(t, "signals", l.Read("/run/got"), "ready\nUSR1\nTERM\n")
}

func TestRunAsUser(t *testing.T) {
	l, _ := runLab(t)
	l.Write("/run/passwd", "root:x:0:0:root:/root:/bin/bash\nann:x:4711:4712:Ann:/home/ann:/bin/dash\n", 0o644)
	l.Write("/run/group", "root:x:0:\nann:x:4712:\nnet:x:4713:ann,root\nplug:x:4714:ann\n", 0o644)
	l.Script("mount --bind /run/passwd /etc/passwd; mount --bind /run/group /etc/group")
	as := func(command ...string) lab.Result {
		return l.Try([]string{"HOME=/root", "USER=root", "KEPT=yes"}, append([]string{l.Binary, "run", "--user", "ann", "up2", "--"}, command...)...)
	}
	wantEqual(t, "id", as("id").Stdout, "uid=4711(ann) gid=4712(ann) groups=4712(ann),4713(net),4714(plug)\n")
	wantEqual(t, "environment", as("env").Stdout, "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nKEPT=yes\nHOME=/home/ann\nUSER=ann\nLOGNAME=ann\nSHELL=/bin/dash\n")
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
	refused(2, "usage", "up2")
	refused(2, "usage", "--")
	refused(2, "usage", "up2", "--user", "root", "--")
	refused(2, "bogus", "--bogus", "up2", "--")
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
	l.Script("umount -l $(findmnt -n -o TARGET -t cgroup2 | tac)")
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

// openTerminal returns both ends of a new terminal.
func openTerminal(t *testing.T) (pty, terminal *os.File) {
	t.Helper()
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	fatal(t, err)
	t.Cleanup(func() { _ = pty.Close() })
	fatal(t, unix.IoctlSetPointerInt(int(pty.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(pty.Fd()), unix.TIOCGPTN)
	fatal(t, err)
	terminal, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	fatal(t, err)
	return pty, terminal
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// transcript collects what a terminal shows.
type transcript struct {
	mu   sync.Mutex
	text []byte
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, p...)
	return len(p), nil
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text)
}
