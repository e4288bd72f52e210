package tell

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestBySystemd: hooks that systemd runs have their environment, and an end.
func TestBySystemd(t *testing.T) {
	for _, c := range []struct {
		bus  bool
		want []string
	}{
		{true, []string{"--wait", "--pipe", "--property=RuntimeMaxSec=1"}},
		{false, []string{"--service-type=oneshot", "--property=TimeoutStartSec=1"}},
	} {
		got := bySystemd("/usr/bin/systemd-run", []string{"/bin/run-parts", hooksDir}, []string{"IFACE=wan1", "FWMARK="}, 1500*time.Millisecond, c.bus)
		for _, want := range append(c.want, "--collect", "--property=TimeoutStopSec=2", "--setenv=IFACE=wan1", "--setenv=FWMARK=") {
			if !slices.Contains(got, want) {
				t.Errorf("%q lacks %q", got, want)
			}
		}
		if !strings.HasSuffix(strings.Join(got, " "), "-- /bin/run-parts "+hooksDir) {
			t.Errorf("%q", got)
		}
	}
}
