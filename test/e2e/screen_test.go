package e2e

import (
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"wg-multihome/test/lab"
)

// sequence is what a terminal takes for a colour.
var sequence = regexp.MustCompile("\x1b\\[[0-9;]*m")

// inTerminal is what a command shows in a terminal of a width.
func inTerminal(t *testing.T, l *lab.Lab, width uint16, env string, args ...string) string {
	t.Helper()
	script := env + ` "$@"; echo; echo it has ended`
	_, _, shown, _ := startInTerminalOf(t, l, unix.Winsize{Row: 24, Col: width}, append([]string{"sh", "-c", script, "-", l.Binary}, args...)...)
	lab.Until(t, "the command ends", lab.Contains(shown.String, "it has ended"))
	text, _, _ := strings.Cut(shown.String(), "\r\nit has ended")
	return strings.ReplaceAll(text, "\r\n", "\n")
}

// wantWidth fails the test where a line is wider, but for one word that is.
func wantWidth(t *testing.T, what, text string, width int) {
	t.Helper()
	for _, line := range strings.Split(text, "\n") {
		if len([]rune(line)) > width && len(strings.Fields(line)) > 1 {
			t.Errorf("%s: more than %d columns: %q", what, width, line)
		}
	}
}

// TestStatusFits80: with two uplinks, a tunnel and a service, in a pipe and in a
// terminal.
func TestStatusFits80(t *testing.T) {
	l := healthy(t)
	text := l.MustMH("status").Stdout
	for _, part := range []string{"ok: 2 uplinks, 1 mark, 1 tunnel, 1 service, nothing drifts\n", "\nTUNNEL ", "\nSERVICE "} {
		wantPart(t, "status", text, part)
	}
	wantWidth(t, "status", text, 80)
	wantWidth(t, "status in a terminal", inTerminal(t, l, 80, "NO_COLOR=1", "status"), 80)
}

// TestNarrowTerminal: what is for people is broken between words.
func TestNarrowTerminal(t *testing.T) {
	l := healthy(t)
	l.Script("ip link set up2 down; ip route flush table 3325256714")
	for _, args := range [][]string{{"status"}, {"explain", "--mark", "0x2005", lab.Far4}, {"doctor"}} {
		wantWidth(t, args[0], inTerminal(t, l, 40, "", args...), 40)
	}
}

// TestColours: where the terminal has them, unless NO_COLOR is set, and never in a
// pipe; the text is the same without.
func TestColours(t *testing.T) {
	l := healthy(t)
	l.Script("ip rule del fwmark 0x2005 unreachable")
	l.Write("/etc/dhcp/dhclient-exit-hooks.d/multihome", "#!/bin/sh\nrun-parts /etc/dhcp/multihomed.d\n", 0o755)
	for _, command := range []string{"status", "doctor"} {
		coloured := inTerminal(t, l, 100, "TERM=xterm", command)
		if !sequence.MatchString(coloured) {
			t.Errorf("%s has no colours:\n%s", command, coloured)
		}
		for _, env := range []string{"TERM=xterm NO_COLOR=1", "TERM=dumb", "TERM="} {
			wantEqual(t, command+" with "+env, inTerminal(t, l, 100, env, command), sequence.ReplaceAllString(coloured, ""))
		}
		piped := l.Try([]string{"TERM=xterm", "CLICOLOR_FORCE=1"}, l.Binary, command).Stdout
		wantNone(t, command+" in a pipe", piped, "\x1b")
		wantEqual(t, command+" in a pipe", squeeze(piped), squeeze(sequence.ReplaceAllString(coloured, "")))
	}
}

// TestPlainLocale: where the locale is C, all that is shown is ASCII.
func TestPlainLocale(t *testing.T) {
	l := healthy(t)
	l.Script("ip link set up2 down")
	commands := [][]string{{"status"}, {"plan"}, {"explain", "--mark", "0x2005", lab.Far4}, {"doctor"}, {"help"}, {"sync"}, {"status", "--json"}, {"nonsense"}}
	for _, p := range readPapers(t) {
		if p.topic != "" {
			commands = append(commands, []string{"help", p.topic})
		}
	}
	for _, args := range commands {
		r := l.Try([]string{"LANG=C"}, append([]string{l.Binary}, args...)...)
		for _, c := range r.Stdout + r.Stderr {
			if c > '~' {
				t.Errorf("%v says %q under LANG=C:\n%s%s", args, c, r.Stdout, r.Stderr)
				break
			}
		}
	}
	diagram := l.Try([]string{"LANG=C.UTF-8"}, l.Binary, "help", "lans").Stdout
	wantPart(t, "help lans", diagram, "──►")
	wantPart(t, "help lans", l.Try([]string{"LANG=C"}, l.Binary, "help", "lans").Stdout, "-->")
}
