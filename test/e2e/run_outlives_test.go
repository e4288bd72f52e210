package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"wg-multihome/test/lab"
)

// running starts a command on up2 that goes on, and returns its cgroup.
func running(t *testing.T, l *lab.Lab, cgroups lab.Cgroups) (holder, string) {
	t.Helper()
	h := hold(t, l, l.Binary, "run", "up2", "--", "sh", "-c", "touch /run/started; exec sleep 1000")
	lab.Until(t, "the command runs", func() bool { return strings.Contains(l.Script("ls /run"), "started") })
	return h, strings.TrimSpace(strings.TrimPrefix(cgroups.List(), runSlice))
}

// asks asks from within a cgroup, by new connections of each kind.
func asks(l *lab.Lab, cgroup string) (answers []string) {
	for _, far := range []string{lab.Far4, lab.Far6} {
		for _, network := range []string{"udp", "tcp"} {
			answers = append(answers, l.Ask(lab.Query{Network: network, Far: far, Cgroup: cgroup}))
		}
	}
	return answers
}

// TestRunOutlivesItsMark: a person takes the mark of an uplink out of the
// configuration, or gives it to another one, while a command runs there. The
// command stays where it is until it ends.
func TestRunOutlivesItsMark(t *testing.T) {
	for name, c := range map[string]struct {
		interfaces string
		status     int
		say        string
		flush      bool // others have taken our table away meanwhile
	}{
		"the mark is removed":                        {"auto up2\niface up2 inet dhcp\n", 0, "commands of `run`", false},
		"the uplink is removed":                      {"", 0, "commands of `run`", false},
		"another uplink gets it":                     {strings.ReplaceAll(pinned, "up2", "up1"), 2, "commands of `run`", false},
		"the mark is removed, and there is no table": {"", 0, "commands of `run`", true},
	} {
		t.Run(name, func(t *testing.T) {
			l, cgroups := runLab(t)
			h, cgroup := running(t, l, cgroups)
			l.Interfaces(c.interfaces)
			if c.flush {
				l.Run("nft", "flush", "ruleset")
			}
			for range 2 {
				r := l.MH("sync")
				wantCode(t, r, c.status)
				wantPart(t, "what sync says", r.Stderr, c.say)
				wantEqual(t, "what far saw", strings.Join(asks(l, cgroup), " "), strings.Join([]string{two4, two4, two6, two6}, " "))
			}
			if r := l.MH("plan"); r.Stdout != "" {
				t.Errorf("sync would do still:\n%s", r.Stdout)
			}
			wantPart(t, "status", l.MH("status").Stdout, "commands of `run`")
			r := runs(l, "touch", "/run/another")
			wantCode(t, r, 1)
			wantNone(t, "files", l.Script("ls /run"), "another")
			l.Run("ip", "link", "set", "up2", "down")
			wantCode(t, l.MH("sync"), c.status)
			for _, answer := range asks(l, cgroup) {
				if !strings.HasPrefix(answer, "error: ") {
					t.Errorf("while the uplink is down far saw %q", answer)
				}
			}
			h.signal(syscall.SIGTERM)
			_ = h.status()
			l.MustMH("sync")
			if c.status == 0 {
				wantNone(t, "rules", l.Run("ip", "rule")+l.Run("ip", "-6", "rule"), "fwmark")
			}
			noDrift(t, l)
			noSpoof(t, l)
		})
	}
}

// TestRunEndsWithUnsentData: what a command has left in its socket still leaves by
// the uplink once it has ended: the socket keeps its mark, and the mark its guards.
func TestRunEndsWithUnsentData(t *testing.T) {
	const bytes = 1 << 20
	for far, seen := range map[string]string{lab.Far4: two4, lab.Far6: two6} {
		t.Run("to "+far, func(t *testing.T) {
			l, cgroups := runLab(t)
			sink := l.Sink(far)
			variable, command := l.Leaving(far, bytes)
			r := l.Try([]string{variable}, append([]string{l.Binary, "run", "up2", "--"}, command...)...)
			wantCode(t, r, 0)
			wantEqual(t, "cgroups afterwards", cgroups.List(), runSlice)
			l.MustMH("sync")
			wantEqual(t, "what far has got", sink.Read(), fmt.Sprintf("%d bytes from %s", bytes, seen))
			noPart(t, l)
			noDrift(t, l)
			noSpoof(t, l)
		})
	}
}
