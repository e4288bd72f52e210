package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// watched is a host that is watched: both uplinks, and mark 0x2005 pinned to up2.
func watched(t *testing.T, args ...string) (*lab.Lab, *lab.Watch) {
	t.Helper()
	l := newLab(t)
	l.Static()
	config := l.TOML("[uplink.up1]\nfwmark = 0x1005\n[uplink.up2]\nfwmark = 0x2005\n")
	w := l.Watch(append([]string{"--config", config}, args...)...)
	return l, w
}

// right waits until the kernel is what is wanted.
func right(t *testing.T, l *lab.Lab, what string) {
	t.Helper()
	lab.Until(t, "all is as is wanted after: "+what, func() bool {
		r := l.MH("plan", "--exit-code", "--config", namedFile)
		return r.Code == 0 && r.Stdout == ""
	})
}

// TestWatchMends has others do to the host what they do, and nobody but watch
// mends it.
func TestWatchMends(t *testing.T) {
	l, w := watched(t)
	right(t, l, "the start")
	for _, c := range []struct{ name, script, rule string }{
		{"a rule is deleted", "ip rule del fwmark 0x2005 unreachable", "32754: from all fwmark 0x2005 unreachable proto 77"},
		{"all rules are flushed", "ip rule flush; ip -6 rule flush; ip rule add priority 32766 lookup main; ip -6 rule add priority 32766 lookup main", "32754: from all fwmark 0x2005 unreachable proto 77"},
		{"nft flush ruleset", "nft flush ruleset", ""},
		{"a link down and up", "ip link set up2 down; ip link set up2 up; ip route replace default via 198.51.100.1 dev up2 metric 2; ip -6 addr replace 2001:db8:2::10/64 dev up2 nodad; ip -6 route replace default via 2001:db8:2::1 dev up2 metric 2", ""},
		{"another address", "ip addr add 198.51.100.11/24 dev up2", "from 198.51.100.11 lookup 3325256715"},
		{"it goes", "ip addr del 198.51.100.11/24 dev up2", ""},
		{"another gateway", "ip route replace default via 198.51.100.7 dev up2 metric 2", ""},
	} {
		l.Script(c.script)
		right(t, l, c.name)
		if c.rule != "" {
			wantPart(t, c.name, l.Rules("-4"), c.rule)
		}
	}
	wantPart(t, "the table of the uplink", l.Default("3325256714"), "via 198.51.100.7")
	wantPart(t, "the log", w.Said(), "+ rule 4 32754 fwmark 0x2005 unreachable")
	w.Signal(syscall.SIGTERM)
	if code := w.Wait(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	right(t, l, "its end")
	noSpoof(t, l)
}

// TestWatchUsage: the range of --interval, a second one, and a process without
// privilege.
func TestWatchUsage(t *testing.T) {
	l, w := watched(t)
	for _, c := range []struct {
		args []string
		code int
		part string
	}{
		{[]string{"watch", "--interval", "999ms"}, 2, "--interval 999ms is not from 1s to 24h0m0s"},
		{[]string{"watch", "--interval", "25h"}, 2, "is not from"},
		{[]string{"watch", "--config", "/nowhere"}, 2, "/nowhere"},
		{[]string{"watch"}, 1, "another `wg-multihome watch` runs"},
	} {
		r := l.MH(c.args...)
		wantCode(t, r, c.code)
		wantPart(t, fmt.Sprint(c.args), r.Stderr, c.part)
	}
	w.Signal(syscall.SIGKILL)
	w.Wait()
	l.Script("ip rule del fwmark 0x2005 unreachable")
	l.Watch("--config", namedFile)
	right(t, l, "a kill and a new start")
}

// TestWatchConfiguration: files that change, are broken, away and empty.
func TestWatchConfiguration(t *testing.T) {
	l, w := watched(t)
	guards := func(mark string) bool {
		return strings.Contains(l.Rules("-4"), "fwmark "+mark+" unreachable") && strings.Contains(l.Rules("-6"), "fwmark "+mark+" unreachable")
	}
	l.TOML("[uplink.up1]\nfwmark = 0x1005\n[uplink.up2]\nfwmark = 0x2005\n[uplink.up3]\nfwmark = 0x3005\n")
	lab.Until(t, "a new mark has guards", func() bool { return guards("0x3005") })
	l.TOML("[uplink.up1]\nfwmark = 0x1005\n[uplink.up2\n")
	lab.Until(t, "the error is said", lab.Contains(w.Said, "up2"))
	l.Script("ip rule del fwmark 0x3005 unreachable")
	lab.Until(t, "what stands is kept though the file is broken", func() bool { return guards("0x3005") })
	l.Script("rm /run/wg-multihome.toml")
	l.Script("ip rule del fwmark 0x3005 unreachable")
	lab.Until(t, "what stands is kept though the file is away", func() bool { return guards("0x3005") })
	l.TOML("[uplink.up1]\nfwmark = 0x1005\n[uplink.up2]\nfwmark = 0x2005\n")
	lab.Until(t, "it is said that a mark is configured no longer", lab.Contains(w.Said, "0x3005 of uplink \"up3\" is configured no longer"))
	lab.Until(t, "what is configured no longer goes after a while", func() bool { return !strings.Contains(l.Rules("-4"), "0x3005") })
	right(t, l, "that")
	if !guards("0x1005") || !guards("0x2005") {
		t.Error("others went along")
	}
}

// TestWatchBegunWhileAFileIsAway: watch begins anew while a file is away that had marks.
// It takes for missing what the watch before would have, until a person says that all is
// well.
func TestWatchBegunWhileAFileIsAway(t *testing.T) {
	const interfaces = "/etc/network/interfaces"
	for name, take := range map[string]func(*lab.Lab){
		"absent": func(l *lab.Lab) { l.Run("mv", interfaces, interfaces+".bak") },
		"empty":  func(l *lab.Lab) { l.Interfaces("") },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			guards := func(mark string) func() bool {
				return lab.Contains(func() string { return l.Rules("-4") }, "fwmark "+mark+" unreachable")
			}
			const two = "[uplink.up1]\nfwmark = 0x1005\n[uplink.up3]\nfwmark = 0x3005\n"
			config := l.TOML(two)
			l.Interfaces(pinned)
			w := l.Watch("--config", config)
			lab.Until(t, "a mark of each file has guards", func() bool { return guards("0x1005")() && guards("0x2005")() })
			w.Signal(syscall.SIGKILL)
			w.Wait()
			take(l)
			w = l.Watch("--config", config)
			lab.Until(t, "it is said", lab.Contains(w.Said, "0x2005 of uplink \"up2\" is configured no longer"))
			stays(t, l, w, guards)
			l.WantSeen(lab.Far4, "", mark, two4)
			l.MustMH("sync", "--config", config)
			lab.Until(t, "a person takes the guard away", func() bool { return !guards("0x2005")() })
			// No file is missing any more.
			l.TOML("[uplink.up1]\nfwmark = 0x1005\n")
			lab.Until(t, "what is configured no longer goes", func() bool { return !guards("0x3005")() })
		})
	}
}

// TestWatchBegunWhileANewFileIsAway: watch begins anew while a file is away that came when
// the configuration had an error already, so that no run since has found all well.
func TestWatchBegunWhileANewFileIsAway(t *testing.T) {
	const interfaces = "/etc/network/interfaces"
	l := newLab(t)
	l.Static()
	guards := func(mark string) func() bool {
		return lab.Contains(func() string { return l.Rules("-4") }, "fwmark "+mark+" unreachable")
	}
	const well = "[uplink.up1]\nfwmark = 0x1005\n"
	config := l.TOML(well)
	w := l.Watch("--config", config)
	lab.Until(t, "a mark has guards", guards("0x1005"))
	l.TOML(well + "[uplink.up3]\nfwmark = \"no number\"\n")
	lab.Until(t, "the error is said", lab.Contains(w.Said, "no number"))
	l.Interfaces(pinned)
	lab.Until(t, "the new file's mark has guards", guards("0x2005"))
	w.Signal(syscall.SIGKILL)
	w.Wait()
	l.Run("mv", interfaces, interfaces+".bak")
	w = l.Watch("--config", config)
	l.TOML(well + "[uplink.up3]\nfwmark = 0x3005\n")
	lab.Until(t, "the error is mended", guards("0x3005"))
	lab.Until(t, "it is said", lab.Contains(w.Said, "0x2005 of uplink \"up2\" is configured no longer"))
	stays(t, l, w, guards)
	l.MustMH("sync", "--config", config)
	lab.Until(t, "a person takes the guard away", func() bool { return !guards("0x2005")() })
}

// stays fails where the guard of 0x2005 goes within longer than the 5 s after which it
// would, were no file missing (watch.settled). That watch works shows in another guard,
// which comes back.
func stays(t *testing.T, l *lab.Lab, w *lab.Watch, guards func(mark string) func() bool) {
	t.Helper()
	for range 8 {
		time.Sleep(time.Second)
		l.Script("ip rule del fwmark 0x1005 unreachable")
		lab.Until(t, "watch works", guards("0x1005"))
	}
	if !guards("0x2005")() {
		t.Errorf("the guard went while its file is away:\n%s", w.Said())
	}
}

// TestWatchBesideSync: what a person's sync takes away beside watch, watch does not put
// back for what it has seen before.
func TestWatchBesideSync(t *testing.T) {
	l, w := watched(t)
	const without = "[uplink.up1]\nfwmark = 0x1005\n[uplink.up2]\nfwmark = 0x2005\n"
	const times = 5
	for range times {
		l.TOML(without + "[uplink.up3]\nfwmark = 0x3005\n")
		right(t, l, "a new mark")
		l.TOML(without)
		l.MustMH("sync", "--config", namedFile)
		right(t, l, "a sync without it")
	}
	if n := strings.Count(w.Said()+"\n", "+ rule 4 32754 fwmark 0x3005 unreachable\n"); n > times {
		t.Errorf("watch put the guard %d times, of a mark that was configured %d times:\n%s", n, times, w.Said())
	}
}
