package config

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wg-multihome/fwmark"
)

// TestAgain reads a configuration twice, and something in between has changed or
// not: ifquery is asked again where its answer may be another one.
func TestAgain(t *testing.T) {
	const interfaces = "source more/*\niface eth0 inet dhcp\n\tmultihomed-fwmark 1\n"
	for name, c := range map[string]struct {
		change func(put func(file, text string))
		before string // the interfaces, where they are others
		state  string // "": no file that is known says what is up
		asks   int    // how often ifquery runs
	}{
		"nothing":                     {change: func(func(string, string)) {}, state: "lo=lo\n", asks: 2},
		"nothing is known to be up":   {change: func(func(string, string)) {}, asks: 4},
		"the text, in one tick":       {change: func(put func(string, string)) { put("interfaces", strings.Replace(interfaces, "1", "2", 1)) }, state: "lo=lo\n", asks: 4},
		"what is sourced":             {change: func(put func(string, string)) { put("more/one", "iface eth1 inet dhcp\n") }, state: "lo=lo\n", asks: 4},
		"a file more is sourced":      {change: func(put func(string, string)) { put("more/two", "# nothing\n") }, state: "lo=lo\n", asks: 4},
		"an interface was brought up": {change: func(put func(string, string)) { put("state/ifstate", "lo=lo\neth0=eth0\n") }, state: "lo=lo\n", asks: 4},
		"the TOML file came":          {change: func(put func(string, string)) { put("toml", "hook-timeout = \"1s\"\n") }, state: "lo=lo\n", asks: 4},
		"an error":                    {change: func(func(string, string)) {}, before: strings.Replace(interfaces, "1", "x", 1), state: "lo=lo\n", asks: 4},
		"an empty file":               {change: func(func(string, string)) {}, before: "\n", state: "lo=lo\n"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := func(file string) string { return filepath.Join(dir, file) }
			put := func(file, text string) {
				if err := os.MkdirAll(filepath.Dir(path(file)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path(file), []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			put("interfaces", interfaces)
			if c.before != "" {
				put("interfaces", c.before)
			}
			put("more/one", "")
			if c.state != "" {
				put("state/ifstate", c.state)
			}
			// The name is a link, as in ifupdown's package: who has it needs no asking.
			if err := os.Symlink("ifup", path("ifquery")); err != nil {
				t.Fatal(err)
			}
			put("ifup", "#!/bin/sh\necho x >>"+path("asked")+"\ncase \"$*\" in *--state) exit;; esac\nsed -n 's/^\tmultihomed-fwmark /multihomed-fwmark: /p' "+path("interfaces")+"\n")
			q, f := ifupdownFiles{query: ifquery{paths: []string{path("ifquery")}, state: path("state")}}, Files{Interfaces: path("interfaces"), TOML: path("toml")}
			first := Config{}.again(context.Background(), f, q)
			c.change(put)
			again := first.again(context.Background(), f, q)
			asked, _ := os.ReadFile(path("asked"))
			if n := strings.Count(string(asked), "x"); n != c.asks {
				t.Errorf("ifquery ran %d times, want %d", n, c.asks)
			}
			now := Config{}.again(context.Background(), f, q)
			if text, want := shown(again), shown(now); text != want {
				t.Errorf("read again it is\n%s\nread afresh\n%s", text, want)
			}
		})
	}
}

func shown(c Config) string {
	var b strings.Builder
	for _, in := range c.Intents {
		b.WriteString(in.Uplink + " " + in.Mark.String() + "\n")
	}
	for _, p := range c.Problems {
		b.WriteString(p.Text + "\n")
	}
	b.WriteString(c.HookTimeout.String())
	if len(c.Intents) > 0 && c.Intents[0].Mark == (fwmark.Mark{}) {
		b.WriteString(" without a mark")
	}
	return b.String()
}
