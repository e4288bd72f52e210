package try

import (
	"fmt"
	"time"

	"wg-multihome/fwmark/config"
)

// State is a try that is pending, or a configuration that was undone.
type State struct {
	ID       string         `json:"id"`       // of the try that set the time last
	Undone   bool           `json:"undone"`   // else it is pending
	Boot     string         `json:"boot"`     // which boot of this machine
	Deadline time.Duration  `json:"deadline"` // since that boot, suspended or not, in ns: setting the clock changes nothing
	Until    time.Time      `json:"until"`    // the same for people
	Tried    string         `json:"tried"`    // the digest of the files
	Before   *config.Config `json:"before"`   // what was in force; nil: nothing of ours

	File  string `json:"file"`  // of --config
	Named bool   `json:"named"` // it was given
}

// Now is when it is: which boot, and how long ago that was.
type Now struct {
	Boot  string
	Since time.Duration
}

// Over reports whether the time is over: also when the machine was booted since.
func (s State) Over(now Now) bool { return s.Undone || s.Boot != now.Boot || now.Since >= s.Deadline }

// Left is how long a pending try has.
func (s State) Left(now Now) time.Duration {
	if s.Over(now) {
		return 0
	}
	return s.Deadline - now.Since
}

// InForce returns the configuration that counts: the one that was read, unless it
// was tried and not confirmed. undoing says that the caller makes it so: then what
// it brought goes.
func (s State) InForce(read config.Config, now Now, undoing bool) config.Config {
	if read.Digest() != s.Tried || !undoing && !s.Over(now) {
		return read
	}
	if undoing {
		return s.Before.InPlaceOf(read, "")
	}
	return s.Before.InPlaceOf(read, fmt.Sprintf("this configuration was tried until %s and not confirmed, so what was before it is in force until its files change", s.Until.Local().Format(time.DateTime)))
}

// Next returns the state of a new try. One that is pending keeps what was in force
// before it.
func Next(pending *State, now Now, id string, time time.Duration, until time.Time, read config.Config, before *config.Config) State {
	if pending != nil && !pending.Over(now) {
		before = pending.Before
	}
	return State{ID: id, Boot: now.Boot, Deadline: now.Since + time, Until: until, Tried: read.Digest(), Before: before}
}
