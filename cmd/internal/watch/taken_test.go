package watch

import (
	"testing"

	"wg-multihome/cmd/internal/events"
)

// TestByOthers tells what others have taken from what went with a link.
func TestByOthers(t *testing.T) {
	const route = "+ route 4 3325256714 default via 198.51.100.1 dev up2 src 198.51.100.10"
	in := func(c events.Cause) events.Heard { return events.Heard{Causes: []events.Cause{c}, Changes: 1} }
	many := events.Heard{Causes: make([]events.Cause, events.MaxCauses)}
	for _, c := range []struct {
		name, step string
		heard      events.Heard
		want       bool
	}{
		{"a rule, always", guard, events.Heard{}, true},
		{"a route, in silence", route, events.Heard{}, false},
		{"a route, by the kernel", route, in(events.Cause{Kind: events.Route, Gone: true, Protocol: 77, Text: "route 4 of table 3325256714"}), false},
		{"a route, by a process", route, in(events.Cause{Kind: events.Route, Gone: true, Protocol: 77, Port: 1, Text: "route 4 of table 3325256714"}), true},
		{"a route, by another one", route, in(events.Cause{Kind: events.Route, Protocol: 3, Port: 1, Text: "route 4 of table 3325256714"}), true},
		{"a route, put by watch", route, in(events.Cause{Kind: events.Route, Protocol: 77, Port: 1, Text: "route 4 of table 3325256714"}), false},
		{"another family's", route, in(events.Cause{Kind: events.Route, Gone: true, Protocol: 77, Port: 1, Text: "route 6 of table 3325256714"}), false},
		{"more than is known by name", route, many, true},
		{"after messages were lost", route, events.Heard{Overruns: 1}, true},
		{"a link's group", "= link up2 group 77", in(events.Cause{Kind: events.Link, Device: "up2"}), true},
		{"a link's group, with the link", "= link up2 group 77", in(events.Cause{Kind: events.Link, Gone: true, Device: "up2"}), false},
	} {
		if got := byOthers(c.heard, c.step); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
