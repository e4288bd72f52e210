package policy

import (
	"math"

	"wg-multihome/fwmark"
)

// interimGuards returns the unreachable rules that guard marks while our rules
// move to other priorities. A pair selects by source alone, so it leads marked
// packets, too: without such a rule it would do so wherever it stands in front
// of the mark's own unreachable. That can be
//
//   - a wanted mark behind an old pair, one of ours or of the original shell
//     script, until the old pair is deleted;
//   - a mark that is not wanted any more behind an old pair or a new one, until
//     nothing carries the mark.
//
// Each rule stands one priority in front of the first pair. None is wanted, so
// that Close deletes them with the other old rules of their marks.
func interimGuards(have, want State) []Step {
	var steps []Step
	for _, family := range fwmark.Families {
		add := func(m fwmark.Mark, pair uint32) {
			if pair > 0 {
				steps = append(steps, Step{Op: Add, Rule: unreachableRule(family, pair-1, m)})
			}
		}
		oldPair, guarded := firstPair(have.Rules, family)
		newPair, _ := firstPair(want.Rules, family)
		wanted := map[fwmark.Mark]bool{}
		for _, r := range want.Rules {
			if r.Family == family && r.marked() && r.isUnreachable() {
				wanted[r.Mark] = true
				if r.Priority >= oldPair && !guarded[r.Mark] {
					add(r.Mark, oldPair)
				}
			}
		}
		for _, u := range firstUnreachables(have.Rules, family) {
			switch {
			case wanted[u.mark]:
			case newPair < oldPair && u.priority > newPair:
				add(u.mark, newPair)
			case newPair >= oldPair && !guarded[u.mark]:
				add(u.mark, oldPair)
			}
		}
	}
	return steps
}

// noPair is behind every priority.
const noPair = math.MaxUint32

// firstPair returns the priority of a family's first pair, or noPair, and the
// marks whose unreachable the kernel asks before it. rules are in the order in
// which the kernel asks them.
func firstPair(rules []Rule, family fwmark.Family) (priority uint32, guarded map[fwmark.Mark]bool) {
	priority, guarded = noPair, map[fwmark.Mark]bool{}
	for _, r := range rules {
		if r.Family == family && r.sourced() {
			priority = min(priority, r.Priority)
		}
	}
	for _, r := range rules {
		switch {
		case r.Family != family || r.Priority > priority:
		case r.sourced() && r.Priority == priority:
			return priority, guarded
		case r.marked() && r.isUnreachable():
			guarded[r.Mark] = true
		}
	}
	return priority, guarded
}

// markPriority is a mark with the priority of its first unreachable.
type markPriority struct {
	mark     fwmark.Mark
	priority uint32
}

func firstUnreachables(rules []Rule, family fwmark.Family) []markPriority {
	at := map[fwmark.Mark]int{}
	var list []markPriority
	for _, r := range rules {
		if r.Family != family || !r.marked() || !r.isUnreachable() {
			continue
		}
		i, seen := at[r.Mark]
		if !seen {
			at[r.Mark] = len(list)
			list = append(list, markPriority{r.Mark, r.Priority})
			continue
		}
		list[i].priority = min(list[i].priority, r.Priority)
	}
	return list
}
