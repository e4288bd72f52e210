package policy_test

import (
	"testing"

	"pgregory.net/rapid"

	"wg-multihome/fwmark"
)

// TestChainsOfKilledRuns lets things happen to a host, and runs over it, each
// of them killed at some step or not at all. What is promised is checked after
// every step of every run.
func TestChainsOfKilledRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		for range rapid.IntRange(0, 16).Draw(t, "events before") {
			w.event(t)
		}
		for range rapid.IntRange(1, 5).Draw(t, "runs") {
			held := map[fwmark.Mark]bool{}
			for _, m := range marks {
				held[m] = rapid.IntRange(0, 3).Draw(t, "held") == 0
			}
			whole := run{t: t, world: w.clone(), held: held, kill: never}
			whole.converge()
			if whole.steps == 0 || rapid.Bool().Draw(t, "to its end") {
				w = whole.world
			} else {
				killed := run{t: t, world: w, held: held, kill: rapid.IntRange(0, whole.steps-1).Draw(t, "killed before step"), quiet: true}
				killed.converge()
			}
			for range rapid.IntRange(0, 4).Draw(t, "events") {
				w.event(t)
			}
		}
	})
}
