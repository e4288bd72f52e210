package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"wg-multihome/test/lab"
)

// gone returns a pipe whose reader is gone.
func gone(t *testing.T) *os.File {
	t.Helper()
	reader, writer, err := os.Pipe()
	fatal(t, err)
	fatal(t, reader.Close())
	t.Cleanup(func() { _ = writer.Close() })
	return writer
}

// full returns a pipe that is full, and that nobody reads.
func full(t *testing.T) *os.File {
	t.Helper()
	var ends [2]int
	fatal(t, unix.Pipe2(ends[:], unix.O_CLOEXEC))
	t.Cleanup(func() { _ = unix.Close(ends[0]) })
	writer := os.NewFile(uintptr(ends[1]), "pipe")
	t.Cleanup(func() { _ = writer.Close() })
	fill(t, ends[1])
	return writer
}

// stopped returns a terminal that a person has stopped, as by ctrl-S.
func stopped(t *testing.T) *os.File {
	t.Helper()
	_, terminal := openTerminal(t)
	t.Cleanup(func() { _ = terminal.Close() })
	fatal(t, unix.IoctlSetInt(int(terminal.Fd()), unix.TCXONC, unix.TCOOFF))
	return terminal
}

// fill writes to a pipe until it takes no more, and leaves it as one whose
// writers wait.
func fill(t *testing.T, pipe int) {
	t.Helper()
	fatal(t, unix.SetNonblock(pipe, true))
	for _, size := range []int{unix.Getpagesize(), 1} {
		for block := make([]byte, size); ; {
			if _, err := unix.Write(pipe, block); err == unix.EAGAIN {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	fatal(t, unix.SetNonblock(pipe, false))
}

// unread are files that take nothing.
var unread = map[string]func(*testing.T) *os.File{
	"the reader is gone":      gone,
	"the pipe is full":        full,
	"the terminal is stopped": stopped,
}

// startInto starts a command whose stdout and stderr are one file. The returned
// function waits for its end.
func startInto(t *testing.T, l *lab.Lab, out *os.File, env []string, args ...string) (cmd *exec.Cmd, status func() int) {
	t.Helper()
	cmd = l.Command(context.Background(), env, args...)
	cmd.Stdout, cmd.Stderr = out, out
	fatal(t, cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	return cmd, func() int {
		t.Helper()
		lab.Until(t, fmt.Sprintf("the end of %v", args), func() bool {
			select {
			case <-ended:
				return true
			default:
				return false
			}
		})
		return cmd.ProcessState.ExitCode()
	}
}

// TestRunsOutlastWhoReadsThem: what a run says goes nowhere, and everything is
// done all the same, with the lock free afterwards.
func TestRunsOutlastWhoReadsThem(t *testing.T) {
	event := []string{"reason=BOUND", "interface=up2", "new_ip_address=" + two4, "new_subnet_mask=255.255.255.0", "new_routers=198.51.100.1"}
	for name, file := range unread {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			hostConfig, _ := peers(t)
			host := l.Tunnel(l.Namespace, "wg0", hostConfig)
			l.Interfaces("iface up2 inet dhcp\n\tmultihomed-fwmark 0x2005\n\tmultihomed-wireguard wg0\n")
			var batch strings.Builder
			for i := range 100 { // a page of the pipe holds less than what is said of them
				fmt.Fprintf(&batch, "addr add 198.51.100.%d/24 dev up2\n", 100+i)
			}
			l.IP(batch.String())
			for _, args := range [][]string{{"sync"}, {"sync", "-v"}, {"sync", "--hook", "-v"}, {"exit-hook", "-v"}} {
				_, status := startInto(t, l, file(t), event, append([]string{l.Binary}, args...)...)
				if s := status(); s != 0 {
					t.Errorf("%v: exit status %d", args, s)
				}
				noDrift(t, l)
				wantEqual(t, "mark of the device", host.Get("fwmark"), "8197")
				wantPart(t, "table", l.Run("nft", "list", "table", "inet", "wg_multihome"), "lock_0x2005")
				wantCode(t, l.Try(nil, "flock", "--nonblock", "/run/wg-multihome/lock", "true"), 0)
				l.MustMH("down")
			}
			_, status := startInto(t, l, file(t), nil, l.Binary, "sync", "--hook", "--state-dir", "/proc/none")
			if s := status(); s != 0 {
				t.Errorf("sync --hook that fails: exit status %d", s)
			}
			_, status = startInto(t, l, file(t), nil, l.Binary, "sync", "--no-such-flag")
			if s := status(); s != 2 {
				t.Errorf("a flag that is not known: exit status %d", s)
			}
		})
	}
}

// TestReaderThatHasSeenEnough: what only shows ends quietly, with the status of
// what was found.
func TestReaderThatHasSeenEnough(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	for want, commands := range map[int][][]string{
		0: {{"plan"}, {"status"}, {"status", "--json"}, {"--help"}, {"sync", "--help"}},
		3: {{"plan", "--exit-code"}, {"status", "--exit-code"}},
	} {
		for _, args := range commands {
			cmd := l.Command(context.Background(), nil, append([]string{l.Binary}, args...)...)
			var said strings.Builder
			cmd.Stdout, cmd.Stderr = gone(t), &said
			_ = cmd.Run() // its status follows
			if status := cmd.ProcessState.ExitCode(); status != want || strings.Contains(said.String(), "pipe") {
				t.Errorf("%v: exit status %d, want %d\n%s", args, status, want, &said)
			}
		}
	}
	r := l.Try(nil, "sh", "-c", `exec "$@" >/dev/full`, "-", l.Binary, "plan")
	wantCode(t, r, 1)
	wantPart(t, "the message", r.Stderr, "no space")
}

// TestHangUpEndsNoRun: neither while it reads the configuration nor while hooks
// run.
func TestHangUpEndsNoRun(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.Script("mkdir /run/real; cp $(readlink -f /sbin/ifquery) /run/real/ifquery")
	const waits = "echo x >>/run/%[1]s.begun; until [ -e /run/%[1]s.go ]; do sleep 0.02; done\n"
	l.Write("/run/ifquery", "#!/bin/sh\n"+fmt.Sprintf(waits, "ifquery")+"exec /run/real/ifquery \"$@\"\n", 0o755)
	l.Script("mount --bind /run/ifquery $(readlink -f /sbin/ifquery)")
	l.Write("/etc/dhcp/multihomed.d/slow", "#!/bin/sh\n"+fmt.Sprintf(waits, "hook")+"echo $IFACE$MULTIHOMED_FAMILY >>/run/told\n", 0o755)
	said := &transcript{}
	cmd := l.Command(context.Background(), nil, l.Binary, "sync")
	cmd.Stderr = said
	fatal(t, cmd.Start())
	for _, place := range []string{"ifquery", "hook"} {
		lab.Until(t, place+" runs", func() bool { return l.Read("/run/"+place+".begun") != "" })
		for range 3 {
			_ = cmd.Process.Signal(syscall.SIGHUP) // an error where it has ended: its status says so
		}
		l.Write("/run/"+place+".go", "", 0o644)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	if n := strings.Count(l.Read("/run/told"), "\n"); n != 4 {
		t.Errorf("told %d times, want 4:\n%s", n, l.Read("/run/told"))
	}
	l.Script("umount $(readlink -f /sbin/ifquery)")
	noDrift(t, l)
}

// TestHooksGetSignalsAsTheyWereFound: what runs ignore or take, hooks do not,
// unless our caller has it so, as by nohup(1).
func TestHooksGetSignalsAsTheyWereFound(t *testing.T) {
	for ignored, want := range map[string]string{"": "0000000000000000", "HUP": "0000000000000001"} {
		t.Run(ignored, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Write("/etc/dhcp/multihomed.d/signals", "#!/bin/sh\ngrep SigIgn /proc/self/status >>/run/signals\n", 0o755)
			wantCode(t, l.Try(nil, "sh", "-c", `[ -z "$0" ] || trap "" $0; exec "$@"`, ignored, l.Binary, "sync"), 0)
			wantEqual(t, "ignored signals", l.Read("/run/signals"), strings.Repeat("SigIgn:\t"+want+"\n", 4))
		})
	}
}
