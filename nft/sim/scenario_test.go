package sim_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wg-multihome/nft/sim"
)

func TestScenarios(t *testing.T) {
	for _, s := range sim.Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			table := sim.New()
			text, err := s.Run(table, func(o sim.Op) { o.Change(table) }, func(o sim.Op, err error) {
				if errno := answer(err); errno != o.Errno {
					t.Errorf("%v: %v, want %v", o.Plan, err, o.Errno)
				}
			})
			if diff := cmp.Diff(s.Text, text); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func answer(err error) syscall.Errno {
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		return syscall.ENOTRECOVERABLE
	}
	return errno
}
