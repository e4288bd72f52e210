package status

import "testing"

// TestAnswer: one line that fits 80 columns, the most urgent first.
func TestAnswer(t *testing.T) {
	well := Status{Uplinks: []Uplink{{Name: "a"}, {Name: "a", Family: 6}, {Name: "b"}}, Marks: []Mark{{Guarded: true}}, Tunnels: []Tunnel{{Wanted: "0x1"}, {}}, Services: []Service{{Exists: true, Pinned: true}, {}}}
	with := func(change func(*Status)) Status {
		s := well
		change(&s)
		return s
	}
	for want, s := range map[string]Status{
		"ok: 2 uplinks, 1 mark, 1 tunnel, 2 services, nothing drifts": well,
		"ok: nothing drifts": {},
		"WRONG: 1 mark without guards; type `wg-multihome sync`":                        with(func(s *Status) { s.Marks = []Mark{{}}; s.Drift = []string{"x"} }),
		"WRONG: 2 packets led elsewhere, see the end; `wg-multihome explain` tells why": with(func(s *Status) { s.Astray = []string{"x", "y"}; s.Problems = []string{"x"} }),
		"WRONG: 1 service not pinned; type `wg-multihome sync`":                         with(func(s *Status) { s.Services = []Service{{Exists: true}} }),
		"WRONG: 1 error in the configuration, below: mend it, then `wg-multihome sync`": with(func(s *Status) { s.Problems = []string{"x"}; s.Errors = []string{"x"} }),
		"WRONG: 1 error, see below":                                                     with(func(s *Status) { s.Errors = []string{"x"}; s.Drift = []string{"x"} }),
		"WRONG: 3 steps would be taken by sync, see the end; type `wg-multihome sync`":  with(func(s *Status) { s.Drift = []string{"x", "y", "z"} }),
	} {
		if got := s.Answer(); got != want || len(got) > 80 {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
