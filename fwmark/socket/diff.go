package socket

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"wg-multihome/fwmark"
)

// Step brings one cgroup to what it is to have.
type Step struct {
	Cgroup  string
	Have    []fwmark.Mark // marks of ours that it has, or has in part
	Mark    fwmark.Mark   // the one that it is to have; zero: none
	Changes []Change      // in this order
}

// Lines is the step's text, a line for each mark that comes, stays or goes.
func (s Step) Lines() []string {
	switch {
	case s.Mark.IsZero():
		var lines []string
		for _, m := range s.Have {
			lines = append(lines, fmt.Sprintf("- socket-mark %s %s", s.Cgroup, m))
		}
		return lines
	case len(s.Have) == 0:
		return []string{fmt.Sprintf("+ socket-mark %s %s", s.Cgroup, s.Mark)}
	}
	return []string{fmt.Sprintf("= socket-mark %s %s", s.Cgroup, s.Mark)}
}

// Diff plans the way from what stands to what is wanted. What is below others gets
// its programs first, and what is above loses them first: a socket never gets the
// mark of a cgroup above in place of its own.
func Diff(have State, want Want) []Step {
	var steps []Step
	for _, cgroup := range slices.Sorted(maps.Keys(have.Cgroups)) {
		c, target := have.Cgroups[cgroup], want.Targets[cgroup]
		if want.Held[cgroup] || c.has(target) {
			continue
		}
		list := changes(c, target, want.remark(have, cgroup))
		steps = append(steps, Step{Cgroup: cgroup, Have: c.Marks(), Mark: target, Changes: list})
	}
	slices.SortStableFunc(steps, func(a, b Step) int {
		switch goes := a.Mark.IsZero(); {
		case goes != b.Mark.IsZero():
			return map[bool]int{false: -1, true: 1}[goes]
		case goes:
			return depth(a.Cgroup) - depth(b.Cgroup)
		}
		return depth(b.Cgroup) - depth(a.Cgroup)
	})
	return steps
}

// remark tells what the sockets of a cgroup get: its own mark, or that of the
// nearest cgroup above it that has one. They may have those that it has now, and
// those of cgroups above it.
func (w Want) remark(have State, cgroup string) Remark {
	r := Remark{Cgroup: cgroup, To: w.Targets[cgroup], Moves: w.Moves}
	if _, target := w.Targets[cgroup]; target && w.ByPacket[cgroup] {
		r.ByPacket, r.Connections = true, w.Connections
	}
	r.Was = have.Cgroups[cgroup].Marks()
	for above := cgroup; above != ""; {
		above = Above(above)
		marks := have.Cgroups[above].Marks()
		if target, is := w.Targets[above]; is {
			marks = append(marks, target)
			if r.To.IsZero() {
				r.To = target
			}
		}
		r.Was = append(r.Was, marks...)
		if w.Held[above] && r.To.IsZero() && len(marks) == 1 {
			r.To = marks[0]
		}
	}
	slices.SortFunc(r.Was, fwmark.Mark.Compare)
	r.Was = slices.DeleteFunc(slices.Compact(r.Was), func(m fwmark.Mark) bool { return m == r.To })
	for below := range have.Cgroups {
		_, target := w.Targets[below]
		held := w.Held[below] && len(have.Cgroups[below].Marks()) > 0
		if below != cgroup && within(below, cgroup) && (target || held) {
			r.Except = append(r.Except, below)
		}
	}
	slices.Sort(r.Except)
	return r
}

// After returns what stands once a step was made, as reading it would tell.
func (s State) After(step Step) State {
	c, there := s.Cgroups[step.Cgroup]
	if !there {
		return s
	}
	for _, change := range step.Changes {
		c = c.After(change)
	}
	s.Cgroups = maps.Clone(s.Cgroups)
	s.Cgroups[step.Cgroup] = c
	return s
}

// Carrying returns the cgroups with programs of a mark: its guards stay until there
// are none.
func (s State) Carrying(m fwmark.Mark) []string {
	var list []string
	for cgroup, c := range s.Cgroups {
		if slices.Contains(c.Marks(), m) {
			list = append(list, cgroup)
		}
	}
	slices.Sort(list)
	return list
}

// depth is the number of names in a path.
func depth(cgroup string) int {
	if cgroup == "" {
		return 0
	}
	return strings.Count(cgroup, "/") + 1
}
