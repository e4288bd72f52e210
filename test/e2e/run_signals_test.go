package e2e

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"wg-multihome/test/lab"
)

// holder is a command that runs in the lab until it is told to end.
type holder struct {
	t    *testing.T
	cmd  *exec.Cmd
	said *transcript
}

// hold starts one in a session of its own, as without a terminal.
func hold(t *testing.T, l *lab.Lab, args ...string) holder {
	t.Helper()
	h := holder{t, l.Command(context.Background(), nil, args...), &transcript{}}
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
	cmd, keys, shown, _ = startInTerminalOf(t, l, unix.Winsize{}, args...)
	return cmd, keys, shown
}

// startInTerminalOf does so in a terminal of a size, and returns our end of it too.
func startInTerminalOf(t *testing.T, l *lab.Lab, size unix.Winsize, args ...string) (cmd *exec.Cmd, keys func(string), shown *transcript, pty *os.File) {
	t.Helper()
	pty, terminal := openTerminal(t)
	defer terminal.Close()
	fatal(t, unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &size))
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
	return cmd, keys, shown, pty
}

// TestRunInATerminal: the command is in the terminal's foreground, and is
// interrupted, stopped and continued with us.
func TestRunInATerminal(t *testing.T) {
	t.Run("as root", func(t *testing.T) { inATerminal(t) })
	t.Run("as a user", func(t *testing.T) { inATerminal(t, "--user", "ann") })
}

func inATerminal(t *testing.T, as ...string) {
	l, cgroups := runLab(t)
	ann(l)
	l.Write("/run/command", `#!/bin/sh
trap 'echo interrupted' INT
ps -o stat= -p $$ | grep -q + && echo in the foreground
until [ "$line" ]; do read line; done
echo read $line
exit 6
`, 0o755)
	// The shell has it in a process group of its own, as an interactive one.
	command := append(append([]string{l.Binary, "run"}, as...), "up2", "--", "/run/command")
	cmd, keys, shown := startInTerminal(t, l, append([]string{"sh", "-mc", `"$@"; echo stopped $?; fg; echo ended $?`, "-"}, command...)...)
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
