package e2e

import (
	"testing"

	"wg-multihome/test/lab"
)

// TestMovesOfMarksWithRuns does so with commands that `run` has started on up2:
// they stay there, whatever its mark is now.
func TestMovesOfMarksWithRuns(t *testing.T) {
	for name := range serviceEdits {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Cgroups()
			c := startFlows(t, l, name, "", func(f *lab.Flow) { f.By = []string{l.Binary, "--config", namedFile, "run", "up2", "--"} })
			c.goThrough(lab.Rounds(8))
			noSpoof(t, l)
		})
	}
}
