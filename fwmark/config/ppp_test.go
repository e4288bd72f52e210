package config

import (
	"path/filepath"
	"testing"
)

func TestPPPDevice(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"plain":    "noauth\nuser \"me\"\n# unit 5\n",
		"unit":     "noauth unit 5\n",
		"last":     "unit 5 # before\n\tunit   '6'\n",
		"bad":      "unit five\nunit -1\nunit\n",
		"named":    "unit 5\nifname wan-dsl\n",
		"impolite": "ifname ../x\n",
		"provider": "unit 9\n",
	} {
		write(t, filepath.Join(dir, name), text, 0o644)
	}
	write(t, filepath.Join(dir, "../unit"), "unit 8\n", 0o644)
	for want, c := range map[string]struct {
		name, device string
		options      []option
	}{
		"a provider without a unit":           {"dsl", "ppp0", []option{{"provider", "plain"}}},
		"without a file":                      {"dsl", "ppp0", []option{{"provider", "none"}}},
		"a unit":                              {"dsl", "ppp5", []option{{"provider", "unit"}}},
		"the last unit":                       {"dsl", "ppp6", []option{{"provider", "last"}}},
		"units that are none":                 {"dsl", "ppp0", []option{{"provider", "bad"}}},
		"a name of its own":                   {"dsl", "wan-dsl", []option{{"provider", "named"}}},
		"no name of an interface":             {"dsl", "ppp0", []option{{"provider", "impolite"}}},
		"the stanza's unit before the file's": {"dsl", "ppp3", []option{{"unit", "3"}, {"provider", "unit"}}},
		"the stanza's name":                   {"ppp7", "ppp7", []option{{"provider", "plain"}}},
		"the file's unit before it":           {"ppp7", "ppp5", []option{{"provider", "unit"}}},
		"pon's own provider":                  {"dsl", "ppp9", nil},
		"no file elsewhere":                   {"dsl", "ppp5", []option{{"ppp-provider", "../../../unit"}}},
	} {
		if device, why := (ifupdownFiles{peers: dir}).pppDevice(c.name, c.options); device != c.device {
			t.Errorf("%s: %s (%s), want %s", want, device, why, c.device)
		}
	}
}
