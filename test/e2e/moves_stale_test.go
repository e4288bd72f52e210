package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"wg-multihome/test/lab"
)

// lockPath is where runs of ours wait for each other.
const lockPath = "/run/wg-multihome/lock"

// held is the lock, held by the test.
type held struct {
	t    *testing.T
	file *os.File
	seen int // an inotify(7) descriptor: who opens the lock waits for it
}

func holdLock(t *testing.T, l *lab.Lab) held {
	t.Helper()
	f, err := os.Open(l.Path(lockPath))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	seen, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.InotifyAddWatch(seen, l.Path(lockPath), unix.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	return held{t, f, seen}
}

// wanted waits until somebody else has opened the lock.
func (h held) wanted() {
	h.t.Helper()
	b := make([]byte, 4096)
	lab.Until(h.t, "the run waits for the lock", func() bool {
		n, err := unix.Read(h.seen, b)
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			h.t.Fatal(err)
		}
		return n > 0
	})
}

func (h held) release() {
	h.t.Helper()
	if err := errors.Join(unix.Close(h.seen), h.file.Close()); err != nil {
		h.t.Fatal(err)
	}
}

// started is a run that goes on beside the test.
type started struct {
	t    *testing.T
	cmd  *exec.Cmd
	said bytes.Buffer
}

func startRun(t *testing.T, l *lab.Lab, env []string, args ...string) *started {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*lab.Patience)
	t.Cleanup(cancel)
	s := &started{t: t, cmd: l.Command(ctx, env, append([]string{l.Binary}, args...)...)}
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// stop halts the run where it is; cont has it go on.
func (s *started) stop() {
	s.t.Helper()
	s.signal(unix.SIGSTOP)
	lab.Until(s.t, "the run is stopped", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
		if err != nil {
			s.t.Fatal(err)
		}
		_, state, _ := strings.Cut(string(stat), ") ")
		return strings.HasPrefix(state, "T")
	})
}

func (s *started) cont() { s.t.Helper(); s.signal(unix.SIGCONT) }

func (s *started) signal(signal unix.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}

// end waits for the run's end.
func (s *started) end() lab.Result {
	s.t.Helper()
	var exit *exec.ExitError
	if err := s.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return lab.Result{Stderr: s.said.String(), Code: s.cmd.ProcessState.ExitCode()}
}

// renumbering is a configuration of a round: each has other numbers than the one
// before.
func renumbering(round int) string {
	return fmt.Sprintf("[uplink.up1]\nfwmark = %#x\n[uplink.up2]\nfwmark = %#x\nwireguard = [\"wg0\"]\n", 0x1000+round, 0x2005+round)
}

// growing is one of a round, too: each has a mark more.
func growing(round int) string {
	text := renumbering(0)
	for i := range round {
		text += fmt.Sprintf("[uplink.wwan%d]\nfwmark = %#x\n", i, 0x3001+i)
	}
	return text
}

// TestWaitingRunsDoTheNewest: a run waits for the lock, and meanwhile the
// configuration is replaced and another run comes. Whichever of them is first,
// in the end the kernel is what the file says.
func TestWaitingRunsDoTheNewest(t *testing.T) {
	renewal := bound("RENEW", two4, "198.51.100.1")
	for name, c := range map[string]struct {
		command string
		env     []string
		text    func(round int) string
		behind  bool // the waiting run has its turn when sync has ended
	}{
		"a renewal behind sync":     {"exit-hook", renewal, renumbering, true},
		"a renewal beside sync":     {"exit-hook", renewal, growing, false},
		"sync --hook behind sync":   {"sync --hook", nil, renumbering, true},
		"sync --hook beside sync":   {"sync --hook", nil, growing, false},
		"sync behind another sync":  {"sync", nil, renumbering, true},
		"sync beside another sync":  {"sync", nil, renumbering, false},
		"growing, a renewal behind": {"exit-hook", renewal, growing, true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			d := devices(t, l, 1, "wg0")[0]
			config := l.TOML(c.text(0))
			l.MustMH("sync", "--config", config)
			wantEqual(t, "mark of wg0", fmt.Sprint(d.mark.Load()), fmt.Sprint(0x2005))
			undone := 0
			const rounds = 6
			for round := 1; round <= rounds; round++ {
				lock := holdLock(t, l)
				waiting := startRun(t, l, c.env, append(strings.Fields(c.command), "--config", config)...)
				lock.wanted()
				if c.behind {
					waiting.stop()
				}
				l.Write(config+".new", c.text(round), 0o644)
				l.Run("mv", config+".new", config)
				if !c.behind {
					sync := startRun(t, l, nil, "sync", "--config", config)
					lock.release()
					wantCode(t, sync.end(), 0)
				} else {
					lock.release()
					wantCode(t, l.MH("sync", "--config", config), 0)
					noDriftOf(t, l, config)
					waiting.cont()
				}
				wantCode(t, waiting.end(), 0)
				if r := l.MH("plan", "--exit-code", "--config", config); r.Code != 0 || r.Stdout != "" {
					undone++
					t.Logf("round %d: exit status %d, %d steps still to be done\n%s", round, r.Code, strings.Count(r.Stdout, "\n"), r.Stderr)
				}
				l.MustMH("sync", "--config", config)
			}
			if undone > 0 {
				t.Errorf("in %d of %d rounds the newest configuration was not what the kernel had in the end", undone, rounds)
			}
		})
	}
}
