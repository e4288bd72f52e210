package e2e

import (
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// TestMistypedWords: whoever mistypes a word is told the right one, in a line.
func TestMistypedWords(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		args string
		want string // "": nothing is near
	}{
		{"snyc", `unknown command "snyc" (did you mean "sync"?)`},
		{"stat", `unknown command "stat" (did you mean "status"?)`},
		{"re", `unknown command "re" (did you mean "refresh" or "run" or "revert"?)`},
		{"exithook", `unknown command "exithook" (did you mean "exit-hook"?)`},
		{"xylophone", `unknown command "xylophone";`},
		{"status --jsn", `unknown flag: --jsn (did you mean "--json"?)`},
		{"sync --confg=x", `unknown flag: --confg (did you mean "--config"?)`},
		{"run --usr x up2 -- true", `unknown flag: --usr (did you mean "--user"?)`},
		{"sync --xylophone", "unknown flag: --xylophone;"},
		{"plan -x", "unknown shorthand flag: 'x' in -x;"},
	} {
		oneLine(t, l.MH(strings.Fields(c.args)...), c.want)
	}
}

// TestHelpAndVersion go to stdout, and take no privilege.
func TestHelpAndVersion(t *testing.T) {
	l := newLab(t)
	as := func(args ...string) lab.Result {
		t.Helper()
		r := l.Try(nil, append([]string{"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", l.Binary}, args...)...)
		wantCode(t, r, 0)
		wantEqual(t, "stderr", r.Stderr, "")
		return r
	}
	version := as("--version").Stdout
	if !strings.HasPrefix(version, "wg-multihome ") || strings.Count(version, "\n") != 1 {
		t.Errorf("version: %q", version)
	}
	wantEqual(t, "help sync", as("help", "sync").Stdout, as("sync", "--help").Stdout)
	for _, command := range []string{"sync", "plan", "status", "refresh", "run", "down", "install", "uninstall", "exit-hook", "hook", "completion", "help"} {
		wantPart(t, "help", as("help").Stdout, "\n  "+command+" ")
	}
}

// TestCompletion asks as a shell does whose person pressed the tab key.
func TestCompletion(t *testing.T) {
	l := newLab(t)
	l.Static()
	config := l.TOML("[uplink.up1]\nfwmark = 1\nwireguard = [\"wg7\", \"wg8\"]\n[uplink.up2]\nfwmark = 2\n[uplink.wan9]\ngateway = [\"192.0.2.9\"]\n")
	before := l.State()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script := l.MustMH("completion", shell).Stdout
		wantPart(t, "script for "+shell, script, "wg-multihome")
		if shell == "bash" {
			l.Write("/run/completion", script, 0o644)
			l.Run("bash", "-n", "/run/completion")
		}
	}
	const none, files = ":4", ":0" // cobra's word for what the shell is to add
	for _, c := range []struct{ typed, want string }{
		{"st|", "status " + none},
		{"run --config " + config + " |", "up1 up2 " + none},
		{"run --config " + config + " up2|", "up2 " + none},
		{"run --config " + config + " up2 |", "-- " + none},
		{"run --config " + config + " up2 -- cu|", files},
		{"refresh --config " + config + " wg|", "wg7 wg8 " + none},
		{"refresh --config " + config + " wg7 |", "wg8 " + none},
		{"refresh --config " + config + " --st|", "--state-dir --stale " + none},
		{"inst|", "install " + none},
		{"exit-hook --client |", "dhclient dhcpcd udhcpc " + none},
		{"sync |", none},
		{"status --config |", "toml :8"},
		{"run --config /run/absent.toml |", none},
	} {
		typed := strings.Split(strings.TrimSuffix(c.typed, "|"), " ")
		r := l.MH(append([]string{"__complete"}, typed...)...)
		wantCode(t, r, 0)
		var got []string
		for _, line := range strings.Split(strings.TrimSpace(r.Stdout), "\n") {
			word, _, _ := strings.Cut(line, "\t")
			got = append(got, word)
		}
		wantEqual(t, c.typed, strings.Join(got, " "), c.want)
		wantNone(t, c.typed, r.Stderr, "wg-multihome:")
	}
	wantEqual(t, "state", l.State(), before)
}
