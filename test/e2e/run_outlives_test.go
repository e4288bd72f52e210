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
// the uplink once it has ended: the socket or its connection keeps its mark, and the
// mark its guards.
func TestRunEndsWithUnsentData(t *testing.T) {
	eachUnsent(t, func(t *testing.T, l *lab.Lab, way string, arrives func()) {
		arrives()
		if way == "socket" {
			noPart(t, l)
		}
	})
}

// TestUnsentDataAfterAFlush: others take our table away meanwhile. What leaves by packet
// before sync is lost here: far's answer to it would be a reset.
func TestUnsentDataAfterAFlush(t *testing.T) {
	eachUnsent(t, func(t *testing.T, l *lab.Lab, _ string, arrives func()) {
		l.ISP1.Script("nft add table inet lossy; nft add chain inet lossy c '{ type filter hook prerouting priority -300; }'; nft add rule inet lossy c iifname home tcp dport 9 drop")
		l.ISP2.Script("nft 'table inet holds { chain c { type filter hook forward priority 0; tcp sport 9 drop; }; }'") // this host would answer with a reset what it does not translate
		l.Script("nft flush ruleset; " + l.Binary + " sync")
		l.ISP2.Run("nft", "delete", "table", "inet", "holds")
		arrives()
	})
}

// eachUnsent runs a test by each way, in both families, with what a command of `run`
// has left in its socket when it ended. Sync has been done since.
func eachUnsent(t *testing.T, test func(t *testing.T, l *lab.Lab, way string, arrives func())) {
	const bytes = 1 << 20
	for _, way := range ways {
		for _, f := range families {
			t.Run(fmt.Sprintf("%s to %s", way, f.far), func(t *testing.T) {
				l, cgroups := runLab(t)
				l.Interfaces(pinned + "\tmultihomed-marking " + way + "\n")
				sink := l.Sink(f.far)
				variable, command := l.Leaving(f.far, bytes)
				r := l.Try([]string{variable}, append([]string{l.Binary, "run", "up2", "--"}, command...)...)
				wantCode(t, r, 0)
				wantEqual(t, "cgroups afterwards", cgroups.List(), runSlice)
				l.MustMH("sync")
				test(t, l, way, func() {
					t.Helper()
					wantEqual(t, "what far has got", sink.Read(), fmt.Sprintf("%d bytes from %s", bytes, f.ours))
				})
				noDrift(t, l)
				noSpoof(t, l)
			})
		}
	}
}
