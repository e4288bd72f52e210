package status

import "testing"

func TestHowServicesAreMarked(t *testing.T) {
	for want, s := range map[string]Service{
		"":                                    {},
		" by socket":                          {Marking: "socket"},
		" by packet":                          {Marking: "packet"},
		" by packet: bpf(2) is not permitted": {Marking: "packet", Why: "bpf(2) is not permitted"},
		" by socket, behind x (id 7), y (id 8) of others, whose marks count": {Marking: "socket", First: []string{"x (id 7)", "y (id 8)"}},
	} {
		if got := s.how(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
