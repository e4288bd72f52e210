package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// edit is what a person makes of the configuration, and the uplink, by its
// number, that each traffic belongs to then.
type edit struct {
	text string
	at   map[string]int
}

// course is a host with traffic, whose configuration is edited again and again.
type course struct {
	*meter
	edits   []edit
	watched map[string]markWatch

	config  string
	now     int                     // the edit that the file has
	allowed map[string]map[int]bool // the uplinks by which traffic may have left since the last reading
	last    reading

	// refused says that a send fails at once where nothing may leave: then nothing is
	// sent that could be waited for.
	refused bool

	changes int
	leaks   map[string]int // packets by another uplink: "wg0 by up1"
	leaking int            // changes in which there were such
}

// namedFile is where the lab's TOML is.
const namedFile = "/run/wg-multihome.toml"

// flowing is how many packets show that traffic flows, or would.
const flowing = 20

func newCourse(edits ...edit) *course {
	return &course{edits: edits, watched: map[string]markWatch{}, allowed: map[string]map[int]bool{}, leaks: map[string]int{}}
}

// start writes and syncs the first edit; then the traffic starts, and the
// meter.
func (c *course) start(t *testing.T, l *lab.Lab, isps []*lab.Namespace, begin func() []traffic) {
	t.Helper()
	c.config = l.TOML(c.edits[0].text)
	l.MustMH("sync", "--config", c.config)
	c.meter = newMeter(t, l, isps, begin())
	c.edit(0)
	c.last = c.read()
	c.settle()
}

// edit writes an edit into the file. What belongs elsewhere by it may have
// moved from now on.
func (c *course) edit(number int) {
	c.t.Helper()
	c.now = number
	c.l.TOML(c.edits[number].text)
	for name, uplink := range c.edits[number].at {
		if c.allowed[name] == nil {
			c.allowed[name] = map[int]bool{}
		}
		c.allowed[name][uplink] = true
	}
}

// account reads the meter, and reports whether something left by an uplink by
// which it may not have left since the last reading.
func (c *course) account() (leaked bool) {
	c.t.Helper()
	r := c.read()
	for _, f := range c.traffics {
		for uplink := 1; uplink <= len(c.isps); uplink++ {
			if n := r[f.name][uplink] - c.last[f.name][uplink]; n > 0 && !c.allowed[f.name][uplink] {
				c.leaks[fmt.Sprintf("%s by up%d", f.name, uplink)] += n
				leaked = true
			}
		}
	}
	c.last = r
	return leaked
}

// settle is for when the kernel is what the edit says: all traffic leaves by
// its uplink, and so it stays until the next change.
func (c *course) settle() (leaked bool) {
	c.t.Helper()
	leaked = c.account()
	for name, uplink := range c.edits[c.now].at {
		c.allowed[name] = map[int]bool{uplink: true}
	}
	c.wait("leaves by its uplink", c.traffics, func(name string) int { return c.edits[c.now].at[name] })
	return c.account() || leaked
}

// wait waits until traffic has come to a router since the last reading, or was
// sent where the number is 0.
func (c *course) wait(what string, traffics []traffic, where func(name string) int) {
	c.t.Helper()
	r := c.last
	for _, f := range traffics {
		at := where(f.name)
		enough := func() bool { return r[f.name][at] >= c.last[f.name][at]+flowing }
		lab.Until(c.t, fmt.Sprintf("%s %s; before that %v", f.name, what, c.last), func() bool {
			if !enough() {
				r = c.read()
			}
			return enough()
		})
	}
}

// steady is the traffic that is sent whatever becomes of it.
func (c *course) steady() []traffic {
	return slices.DeleteFunc(slices.Clone(c.traffics), func(f traffic) bool { return f.stream })
}

// goThrough makes so many changes, from one edit to the next, by sync.
func (c *course) goThrough(changes int) {
	c.t.Helper()
	defer c.report()
	for range changes {
		c.edit((c.now + 1) % len(c.edits))
		r := c.l.MH("sync", "--config", c.config)
		wantCode(c.t, r, 0)
		if c.settle() {
			c.leaking++
		}
		c.changes++
		noDriftOf(c.t, c.l, c.config)
	}
}

// report fails the test for what has leaked.
func (c *course) report() {
	c.t.Helper()
	c.t.Logf("%d changes; packets: %v", c.changes, c.last)
	for _, what := range slices.Sorted(maps.Keys(c.leaks)) {
		c.t.Errorf("%d packets of %s", c.leaks[what], what)
	}
	if c.leaking > 0 {
		c.t.Errorf("%d of %d changes leaked", c.leaking, c.changes)
	}
	for device, w := range c.watched {
		w.neverOff(c.t, device, c.changes)
	}
}

// countsWrong proves that the meter sees what leaves by the first uplink: that
// is where all goes once nothing is pinned.
func (c *course) countsWrong() {
	c.t.Helper()
	c.l.MustMH("down", "--config", c.config)
	c.last = c.read()
	c.wait("leaves by the first uplink, once nothing is pinned", c.steady(), func(string) int { return 1 })
}

// up is what the file says of an uplink.
func up(number int, mark string, lines ...string) string {
	return fmt.Sprintf("[uplink.up%d]\nfwmark = %s\n%s\n", number, mark, strings.Join(lines, "\n"))
}
