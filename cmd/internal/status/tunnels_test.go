package status

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"wg-multihome/wg"
)

func TestAgeOfAHandshake(t *testing.T) {
	now := time.Unix(1_900_000_000, 0)
	for name, c := range map[string]struct {
		at         time.Time
		json, text string
	}{
		"none":                   {time.Time{}, "", "never"},
		"this second":            {now.Add(-time.Second / 2), `"last_handshake_age":0,`, "0s ago"},
		"long ago":               {now.Add(-3 * time.Minute), `"last_handshake_age":180,`, "3m0s ago"},
		"the clock was set back": {now.Add(time.Hour), "", "in the future"},
	} {
		t.Run(name, func(t *testing.T) {
			p := peer(wg.Peer{Handshake: c.at}, now)
			text, err := json.Marshal(p)
			if err != nil || !strings.Contains(string(text), c.json) || c.json == "" && strings.Contains(string(text), "age") {
				t.Errorf("%v: %s", err, text)
			}
			if p.age() != c.text {
				t.Errorf("got %q, want %q", p.age(), c.text)
			}
		})
	}
}
