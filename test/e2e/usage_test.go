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
		{"re", `unknown command "re" (did you mean "refresh" or "revert"?)`},
		{"exithook", `unknown command "exithook" (did you mean "exit-hook"?)`},
		{"xylophone", `unknown command "xylophone";`},
		{"status --jsn", `unknown flag: --jsn (did you mean "--json"?)`},
		{"sync --confg=x", `unknown flag: --confg (did you mean "--config"?)`},
		{"run --usr x up2 -- true", `unknown flag: --usr (did you mean "--user"?)`},
		{"sync --xylophone", "unknown flag: --xylophone;"},
		{"exit-hook --client dhclint", `--client "dhclint" is none of dhclient, dhcpcd, udhcpc (did you mean "dhclient"?)`},
		{"exit-hook --client=", `--client "" is none of dhclient, dhcpcd, udhcpc;`},
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
