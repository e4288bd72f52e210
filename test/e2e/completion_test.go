package e2e

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"wg-multihome/test/lab"
)

// TestCompletion asks as a shell does whose person pressed the tab key.
func TestCompletion(t *testing.T) {
	l := newLab(t)
	l.Static()
	config := l.TOML("[uplink.up1]\nfwmark = 1\nwireguard = [\"wg7\", \"wg8\"]\n[uplink.up2]\nfwmark = 2\ncgroups = [\"x.slice/b.service\", \"a.service\"]\n[uplink.wan9]\ngateway = [\"192.0.2.9\"]\n")
	before := l.State()
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
		{"explain --config " + config + " --mark |", "0x1 0x2 " + none},
		{"explain --config " + config + " --from 198|", two4 + " " + none},
		{"explain --config " + config + " --service |", "a.service x.slice/b.service " + none},
		{"explain |", none},
		{"help js|", "json " + none},
		{"help json f|", "follow " + none},
		{"completion |", "bash fish zsh " + none},
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

// TestCompletionInShells: bash and zsh in a terminal, where the tab key is pressed, and
// fish as it is asked by scripts.
func TestCompletionInShells(t *testing.T) {
	for shell, complete := range map[string]func(t *testing.T, l *lab.Lab) func(typed string) string{
		"bash": func(t *testing.T, l *lab.Lab) func(string) string {
			return tabKey(t, l, "bash --norc --noprofile -i", ". /usr/share/bash-completion/bash_completion; . /run/script")
		},
		"zsh": func(t *testing.T, l *lab.Lab) func(string) string {
			return tabKey(t, l, "zsh -f -i", "bindkey -e; autoload -U compinit; compinit -D; . /run/script")
		},
		"fish": func(_ *testing.T, l *lab.Lab) func(string) string {
			return func(typed string) string {
				begin, word := typed[:strings.LastIndex(typed, " ")+1], ""
				for _, line := range strings.Split(strings.TrimSpace(l.Run("sh", "-c", shellsPath+`fish -c 'source /run/script; complete -C "$argv"' "$0"`, typed)), "\n") {
					word += strings.Split(line, "\t")[0]
				}
				return begin + word
			}
		},
	} {
		t.Run(shell, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			config := l.TOML("[uplink.up2]\nfwmark = 0x2005\nwireguard = [\"wg7\"]\ncgroups = [\"transmission-daemon.service\"]\n")
			l.Script(fmt.Sprintf("mkdir /run/home /run/bin; ln -s %q /run/bin/wg-multihome", l.Binary))
			l.Write("/run/script", l.MustMH("completion", shell).Stdout, 0o644)
			completed := complete(t, l)
			for typed, want := range map[string]string{
				"stat": "status", "run --config C u": "run --config C up2", "refresh --config C w": "refresh --config C wg7",
				"explain --config C --device l": "explain --config C --device lo", "explain --config C --mark 0": "explain --config C --mark 0x2005",
				"explain --config C --service tr": "explain --config C --service transmission-daemon.service",
			} {
				with := strings.NewReplacer("C ", config+" ")
				got := completed("wg-multihome " + with.Replace(typed))
				wantEqual(t, typed, got, "wg-multihome "+with.Replace(want))
			}
		})
	}
}

// shellsPath has shells find the program under test, and keep nothing.
const shellsPath = "export PATH=/run/bin:$PATH HOME=/run/home TERM=xterm; exec "

// tabKey starts a shell, and returns what it makes of a typed line and the tab key.
func tabKey(t *testing.T, l *lab.Lab, shell, setup string) func(typed string) string {
	t.Helper()
	_, keys, shown, _ := startInTerminalOf(t, l, unix.Winsize{Row: 24, Col: 200}, "sh", "-c", shellsPath+shell)
	keys(setup + "; echo $((6 * 7)) is ready\n")
	lab.Until(t, shell+" is ready", lab.Contains(shown.String, "42 is ready"))
	lines := 0
	return func(typed string) string {
		lines++
		const toBegin = "\x01"
		keys(fmt.Sprintf("%s\t%secho $((1000 + %d)) is the line: \n", typed, toBegin, lines))
		var line string
		lab.Until(t, shell+" completes "+typed, func() bool {
			_, said, _ := strings.Cut(shown.String(), fmt.Sprintf("%d is the line: ", 1000+lines))
			var whole bool
			line, _, whole = strings.Cut(said, "\r")
			return whole
		})
		return line
	}
}
