package policy

import (
	"fmt"

	"wg-multihome/fwmark"
)

// The priority where our rules start, and how many priorities they take.
const (
	DefaultPriority = 32752
	span            = 5
)

// Front is a foreign rule that captures, so that our rules start in front of
// it and not at the configured priority.
type Front struct {
	Rule  Rule
	First uint32 // the priority of our first rules
}

func (f Front) String() string {
	return fmt.Sprintf("our IPv%s rules start at %d, in front of the foreign rule: %s", f.Rule.Family, f.First, f.Rule)
}

// firstPriority returns where our rules of a family start: at the configured
// priority, or just in front of the first foreign rule that captures. In front
// of a rule at priority 5 (span) or less there is no room, as priority 0 is the
// kernel's own: that is an error, and the next rule that captures decides.
func (c captureCheck) firstPriority(rules []Rule, family fwmark.Family, configured uint32) (uint32, *Front, error) {
	var err error
	for i := range rules {
		r := rules[i]
		if r.Family != family || r.Priority >= configured+span || !c.captures(&r) {
			continue
		}
		if r.Priority <= span {
			if err == nil {
				err = fmt.Errorf("no room in front of the foreign rule that takes pinned packets: %s", r)
			}
			continue
		}
		first := r.Priority - span
		return first, &Front{Rule: r, First: first}, err
	}
	return configured, nil, err
}

// standingPriority returns where our rules of a family start now, or
// DefaultPriority where none stands.
func standingPriority(rules []Rule, family fwmark.Family) uint32 {
	for _, r := range rules {
		if r.Family == family && r.Ours() {
			switch {
			case r.sourced() && r.isSuppress():
				return max(r.Priority, 4) - 3
			case r.marked() && r.isSuppress():
				return max(r.Priority, 1)
			}
		}
	}
	return DefaultPriority
}
