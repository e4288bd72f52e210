//go:build guest

package e2e

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"wg-multihome/test/lab"
)

// systemdLab is a lab on a machine that systemd runs, and how to run a command
// pinned to up2 there. The mark is to be the test's own, as slices are the
// machine's.
func systemdLab(t *testing.T, mark string) (l *lab.Lab, run func(flags []string, command ...string) *exec.Cmd, slice string) {
	t.Helper()
	if _, err := os.Lstat("/run/systemd/system"); err != nil {
		t.Fatal("systemd does not run here")
	}
	l = newLab(t)
	l.Static()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.toml")
	fatal(t, os.WriteFile(config, []byte("[uplink.up2]\nfwmark = "+mark+"\n"), 0o644))
	run = func(flags []string, command ...string) *exec.Cmd {
		args := append([]string{l.Binary, "run", "--config", config, "--state-dir", filepath.Join(dir, "state")}, flags...)
		return l.Outside(append(append(args, "up2", "--"), command...)...)
	}
	mount, err := exec.Command("findmnt", "-n", "-o", "TARGET", "-t", "cgroup2").Output()
	fatal(t, err)
	return l, run, filepath.Join(strings.TrimSpace(string(mount)), "wgmultihome.slice/wgmultihome-"+mark+"_up2.slice")
}

var unit = regexp.MustCompile(`(?m)^0::/wgmultihome\.slice/wgmultihome-0x7e01_up2\.slice/run-[0-9]+-[0-9a-f]+\.scope$`)

// scopes returns the scopes in a slice.
func scopes(t *testing.T, slice string) []string {
	t.Helper()
	found, err := filepath.Glob(slice + "/*.scope")
	fatal(t, err)
	return found
}

// TestSystemdRun runs commands in scopes of systemd's, which removes them.
func TestSystemdRun(t *testing.T) {
	_, run, slice := systemdLab(t, "0x7e01")
	out := func(cmd *exec.Cmd, code int) string {
		t.Helper()
		var said bytes.Buffer
		cmd.Stderr = &said
		text, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) || cmd.ProcessState.ExitCode() != code {
			t.Errorf("%v: %v, want exit status %d\n%s", cmd.Args, err, code, &said)
		}
		return string(text)
	}
	if text := out(run(nil, "cat", "/proc/self/cgroup"), 0); !unit.MatchString(text) {
		t.Errorf("the command was in\n%s", text)
	}
	out(run(nil, "sh", "-c", "exit 77"), 77)
	out(run(nil, "sh", "-c", "kill -TERM $$"), 128+15)
	// Neither systemd-run nor its manager has a say in arguments and environment.
	wantEqual(t, "arguments", out(run(nil, "printf", "<%s>", "$HOME", "%i", "${PATH}", "a b"), 0), "<$HOME><%i><${PATH}><a b>")
	cmd := run(nil, "env", "-0")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "A=$X %i\n\xfe", "SYSTEMD_LOG_LEVEL=debug"}
	wantEqual(t, "environment", out(cmd, 0), strings.Join(cmd.Env, "\x00")+"\x00")
	wantPart(t, "user", out(run([]string{"--user", "nobody"}, "id", "-un"), 0), "nobody\n")
	lab.Until(t, "scopes go", func() bool { return len(scopes(t, slice)) == 0 })
	// What lives on keeps its scope, and the slice its id.
	before, err := os.Stat(slice)
	fatal(t, err)
	text := out(run(nil, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & cat /proc/self/cgroup; exit 5"), 5)
	left := scopes(t, slice)
	if len(left) != 1 || !strings.Contains(text, filepath.Base(left[0])) {
		t.Fatalf("left scopes: %v; the command was in\n%s", left, text)
	}
	fatal(t, os.WriteFile(filepath.Join(left[0], "cgroup.kill"), []byte("1"), 0))
	lab.Until(t, "the scope goes", func() bool { return len(scopes(t, slice)) == 0 })
	after, err := os.Stat(slice)
	fatal(t, err)
	if !os.SameFile(before, after) {
		t.Error("the slice was made anew")
	}
}

// TestSystemdRunIsKilled kills it while the process waits in its scope, for
// a lock that the test holds: the command is not started.
func TestSystemdRunIsKilled(t *testing.T) {
	_, run, slice := systemdLab(t, "0x7e02")
	started := filepath.Join(t.TempDir(), "started")
	first := run(nil, "true")
	fatal(t, first.Run())
	state := ""
	for i, arg := range first.Args {
		if arg == "--state-dir" {
			state = first.Args[i+1]
		}
	}
	lock, err := os.Open(filepath.Join(state, "lock"))
	fatal(t, err)
	defer lock.Close()
	fatal(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	cmd := run(nil, "touch", started)
	fatal(t, cmd.Start())
	lab.Until(t, "a process waits in a scope", func() bool {
		for _, scope := range scopes(t, slice) {
			if text, _ := os.ReadFile(filepath.Join(scope, "cgroup.procs")); len(text) > 0 {
				return true
			}
		}
		return false
	})
	fatal(t, cmd.Process.Kill())
	_ = cmd.Wait()
	fatal(t, lock.Close())
	lab.Until(t, "its scope goes", func() bool { return len(scopes(t, slice)) == 0 })
	if _, err := os.Stat(started); err == nil {
		t.Error("the command was started")
	}
}

// TestSystemdRunSignals passes them on.
func TestSystemdRunSignals(t *testing.T) {
	_, run, _ := systemdLab(t, "0x7e03")
	cmd := run(nil, "sh", "-c", `trap 'echo got; exit 4' TERM; echo ready; while :; do sleep 0.05; done`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var shown transcript
	cmd.Stdout = &shown
	fatal(t, cmd.Start())
	lab.Until(t, "the command runs", lab.Contains(shown.String, "ready\n"))
	fatal(t, cmd.Process.Signal(syscall.SIGTERM))
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 4 || !strings.Contains(shown.String(), "got\n") {
		t.Errorf("%s\n%s", cmd.ProcessState, &shown)
	}
}

// TestSystemdRunInATerminal: a user's command has a terminal of its own in its scope.
func TestSystemdRunInATerminal(t *testing.T) {
	_, run, slice := systemdLab(t, "0x7e04")
	pty, terminal := openTerminal(t)
	defer terminal.Close()
	cmd := run([]string{"--user", "nobody"}, "sh", "-c", "tty; id -un; cat /proc/self/cgroup; read line; echo read $line; exit 6")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	fatal(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	shown := &transcript{}
	go func() { _, _ = io.Copy(shown, pty) }()
	lab.Until(t, "the command runs in a scope", lab.Contains(shown.String, "_up2.slice/run-"))
	_, err := io.WriteString(pty, "words\n")
	fatal(t, err)
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 6 {
		t.Errorf("%s", cmd.ProcessState)
	}
	lab.Until(t, "all is shown", lab.Contains(shown.String, "read words"))
	wantPart(t, "user", shown.String(), "nobody")
	wantPart(t, "terminal", shown.String(), "/dev/pts/")
	wantNone(t, "terminal", shown.String(), terminal.Name()+"\r\n")
	lab.Until(t, "scopes go", func() bool { return len(scopes(t, slice)) == 0 })
}
