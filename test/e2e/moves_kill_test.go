package e2e

import (
	"math/rand"
	"os"
	"strconv"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// trialsVariable is how often each course is killed, for a run of hours.
const trialsVariable = "WG_MULTIHOME_TRIALS"

// trials is how often each course is killed.
func trials(t *testing.T) int {
	t.Helper()
	const few = 8
	text := os.Getenv(trialsVariable)
	if text == "" {
		return lab.Rounds(few)
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is no number of trials", trialsVariable, text)
	}
	return n
}

// killThrough edits the file so often, and kills the run that is to follow at
// any moment of it. What such a run leaves behind holds for as long as nobody
// comes; then another run is killed, or one that lives puts all right.
func (c *course) killThrough(trials int) {
	c.t.Helper()
	defer c.report()
	const seed = 20261128
	random := rand.New(rand.NewSource(seed))
	sync := func() (took time.Duration, leaked bool) {
		c.t.Helper()
		begun := time.Now()
		wantCode(c.t, c.l.MH("sync", "--config", c.config), 0)
		return time.Since(begun), c.settle()
	}
	c.edit((c.now + 1) % len(c.edits))
	took, _ := sync()
	span := float64(took) // within which a run is killed
	killed, stayed := 0, 0
	for range trials {
		c.edit((c.now + 1 + random.Intn(len(c.edits)-1)) % len(c.edits))
		// Four of five are killed where it is a little longer than runs take.
		if runKilled(c.t, c.l, time.Duration(random.Float64()*span), "sync", "--config", c.config) {
			killed++
			span *= 1.02
		} else {
			span *= 0.92
		}
		leaked := c.account()
		if !c.refused {
			c.wait("is sent after the kill", c.steady(), func(string) int { return 0 })
		}
		if c.account() {
			stayed++
			leaked = true
		}
		if random.Intn(3) > 0 {
			_, too := sync()
			leaked = leaked || too
			noDriftOf(c.t, c.l, c.config)
		}
		if leaked {
			c.leaking++
		}
		c.changes++
	}
	sync()
	noDriftOf(c.t, c.l, c.config)
	c.t.Logf("%d of %d runs were killed (seed %d)", killed, trials, seed)
	if killed == 0 {
		c.t.Error("no run was killed: nothing was proved")
	}
	if stayed > 0 {
		c.t.Errorf("after %d of %d kills it stayed so", stayed, killed)
	}
}

// TestMovesKilled kills runs while marks move, under traffic: no packet leaves
// by an uplink that it belongs to by none of the edits since the last run that
// lived, and one that lives mends all.
func TestMovesKilled(t *testing.T) {
	for _, courses := range []map[string]tunnelCourse{tunnelCourses, maskCourses} {
		for name, k := range courses {
			t.Run(name, func(t *testing.T) {
				c := startTunnels(t, newLab(t), k)
				c.killThrough(trials(t))
				c.countsWrong()
			})
		}
	}
	for name := range serviceEdits {
		t.Run("a service: "+name, func(t *testing.T) {
			c := startService(t, newLab(t), name)
			c.killThrough(trials(t))
			c.countsWrong()
		})
	}
}
