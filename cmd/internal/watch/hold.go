package watch

import (
	"strings"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/events"
	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// Others at work. Each is given a while, and no more: the promise holds meanwhile,
// by the guards and by the second lock.
const (
	// unwindFor is how long suppress rules are left to a program that deletes its
	// own by a wildcard.
	unwindFor = 10 * time.Second

	// youngFor is how long after a device has come a foreign mark on it is left
	// alone.
	youngFor = time.Second
)

// Hold decides which steps are left for later. The zero value leaves none.
type Hold struct {
	Fights

	unwinding [2]time.Time         // by family: since when; zero: nobody is
	born      map[string]time.Time // devices that have come
	heard     events.Heard         // before the look that runs
	held      []string             // the steps that were left by it
	passed    map[string]string    // the last step of it that was not left, by its object
	waits     bool                 // one of them waits for others, and not for a back-off
}

// Born notes that a device has come.
func (h *Hold) Born(now time.Time, device string) {
	if h.born == nil {
		h.born = map[string]time.Time{}
	}
	h.born[device] = now
}

// Begin begins a look, for what was heard.
func (h *Hold) Begin(now time.Time, heard events.Heard) {
	h.heard, h.held, h.passed, h.waits = heard, nil, nil, false
	for device, at := range h.born {
		if now.Sub(at) >= youngFor {
			delete(h.born, device)
		}
	}
}

// End ends it.
func (h *Hold) End(now time.Time, d decide.Decision) {
	for _, f := range fwmark.Families {
		if !unwound(d.Facts, f) {
			h.unwinding[f] = time.Time{}
		}
	}
	h.Settled(h.held)
	h.Forget(now)
}

// Next returns when something that is left is to be looked at again, the zero time
// where nothing is left.
func (h *Hold) Next() time.Time {
	next := h.Fights.Next()
	if !h.waits {
		return next
	}
	earlier := func(at time.Time) {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	for _, since := range h.unwinding {
		if !since.IsZero() {
			earlier(since.Add(unwindFor))
		}
	}
	for _, at := range h.born {
		earlier(at.Add(youngFor))
	}
	return next
}

// Holds reports whether a step is left for later.
func (h *Hold) Holds(now time.Time, d decide.Decision, s decide.Step) bool {
	if h.leaves(now, d, s) {
		h.waits = true
		return true
	}
	lines := decide.Keys(s)
	for _, line := range lines {
		if pinsService(s, line) || h.turns(line) || !h.Fights.Holds(now, line, byOthers(h.heard, line)) {
			h.pass(lines)
			return false // one line that need not wait takes the whole step along
		}
	}
	h.held = append(h.held, lines...)
	return len(lines) > 0
}

// pass notes the lines of a step that is made now.
func (h *Hold) pass(lines []string) {
	if h.passed == nil {
		h.passed = map[string]string{}
	}
	for _, line := range lines {
		h.passed[object(line)] = line
	}
}

// turns reports whether a line undoes what this look has done itself: nobody else took it.
func (h *Hold) turns(line string) bool {
	last, is := h.passed[object(line)]
	return is && last != line
}

// pinsService reports whether a line of a step pins a service: what that sends
// meanwhile has no mark, so no lock holds it. A service that restarts again and
// again is a new cgroup of the same name each time, and no fight.
func pinsService(s decide.Step, line string) bool {
	switch s.(type) {
	case decide.SocketStep, decide.SocketMove:
		return true
	case decide.TableStep:
		return strings.HasPrefix(line, "+ nft element ")
	}
	return false
}

// leaves reports whether a step is left to others who are at work.
func (h *Hold) leaves(now time.Time, d decide.Decision, s decide.Step) bool {
	switch s := s.(type) {
	case decide.RuleStep:
		return s.Op == policy.Add && !s.IsRoute && s.Rule.Suppresses && h.unwinds(now, d, s.Rule.Family)
	case decide.DeviceStep:
		at, young := h.born[s.Device]
		return young && now.Sub(at) < youngFor && foreign(d, s.Device)
	}
	return false
}

// unwinds reports whether a full tunnel's rules are being deleted in a family, and
// have not been for too long.
//
// wg-quick repeats `ip rule delete table main suppress_prefixlength 0` until its
// own such rule is gone. What it does not say is a wildcard, so each time the first
// one goes that suppresses, and ours stand in front: were they put back in between,
// it would never end. What our suppress rules let through goes by the uplink
// meanwhile, as TABLE has it.
func (h *Hold) unwinds(now time.Time, d decide.Decision, f fwmark.Family) bool {
	if !unwound(d.Facts, f) {
		return false
	}
	if h.unwinding[f].IsZero() {
		h.unwinding[f] = now
	}
	return now.Sub(h.unwinding[f]) < unwindFor
}

// unwound reports whether a bare `lookup main suppress_prefixlength 0` of others
// stands without the `not fwmark` rule that comes with it: wg-quick adds that one
// first, and deletes it first.
func unwound(facts policy.Facts, f fwmark.Family) bool {
	bare, twin := false, false
	for _, r := range facts.Rules {
		if r.Family != f || r.Ours() || r.Action != policy.Lookup {
			continue
		}
		selects := r.Mark.Mask != 0 || r.From.IsValid() || r.To.IsValid() || r.Iif != "" || r.Oif != "" || r.Opaque
		bare = bare || r.Table == policy.TableMain && r.Suppresses && r.Suppress == 0 && !r.SuppressesGroup && !selects
		twin = twin || r.Invert && r.Mark.Mask != 0
	}
	return bare && !twin
}

// foreign reports whether a device carries a mark, and none of ours.
func foreign(d decide.Decision, device string) bool {
	for _, found := range d.Devices.Found {
		if found.Name != device || found.Mark == 0 {
			continue
		}
		for _, p := range d.Pins {
			if p.Mark.Value == found.Mark {
				return false
			}
		}
		return true
	}
	return false
}
