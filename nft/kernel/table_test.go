package kernel

import (
	"errors"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wg-multihome/nft/sim"
)

// TestScenarios runs the scenarios of the table in memory on the kernel: the two
// must agree.
func TestScenarios(t *testing.T) {
	for _, s := range sim.Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			c := namespace(t)
			text, err := s.Run(c, func(o sim.Op) { run(t, "nft", o.Nft) }, func(o sim.Op, err error) {
				var errno syscall.Errno
				if err != nil && !errors.As(err, &errno) || errno != o.Errno {
					t.Errorf("%v: %v, want %v", o.Plan, err, o.Errno)
				}
			})
			if diff := cmp.Diff(s.Text, text); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}
