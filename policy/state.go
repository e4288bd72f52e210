package policy

import (
	"cmp"
	"slices"
)

// State is a set of rules and routes, and of links in a group: what we want, or
// what stands of it.
type State struct {
	Rules  []Rule
	Routes []Route
	Groups []LinkGroup
}

// StateAfter returns what have becomes when steps are done, one after the
// other: what one step adds a later one may delete. Rules come out in the order
// in which the kernel asks them.
func StateAfter(have State, steps []Step) State {
	if len(steps) == 0 {
		return have
	}
	return State{Rules: rulesAfter(have.Rules, steps), Routes: routesAfter(have.Routes, steps), Groups: groupsAfter(have.Groups, steps)}
}

func rulesAfter(have []Rule, steps []Step) []Rule {
	rules := make([]Rule, 0, len(have)+len(steps)) // all that there are at some time, each once
	gone := make([]bool, 0, cap(rules))            // those that a step has deleted
	places := index[ruleKey]{first: make(map[ruleKey]int32, cap(rules))}
	place := func(r *Rule) int {
		for i := range places.places(r.key()) {
			if rules[i] == *r {
				return i
			}
		}
		return -1
	}
	add := func(r *Rule) {
		if i := place(r); i >= 0 {
			gone[i] = false
			return
		}
		places.add(r.key())
		rules, gone = append(rules, *r), append(gone, false)
	}
	for i := range have { // a dump of the kernel may have repeated some
		add(&have[i])
	}
	for i := range steps {
		s := &steps[i]
		switch {
		case s.IsRoute || s.Op == Set:
		case s.Op == Add:
			add(&s.Rule)
		default:
			if i := place(&s.Rule); i >= 0 {
				gone[i] = true
			}
		}
	}
	left := rules[:0]
	for i := range rules {
		if !gone[i] {
			left = append(left, rules[i])
		}
	}
	slices.SortStableFunc(left, func(a, b Rule) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Priority, b.Priority))
	})
	return left
}

func routesAfter(have []Route, steps []Step) []Route {
	byTable := map[tableKey][]Route{} // those that steps change
	for i := range steps {
		if s := &steps[i]; s.IsRoute {
			byTable[s.Route.tableKey()] = nil
		}
	}
	routes := make([]Route, 0, len(have)+len(byTable))
	for i := range have {
		k := have[i].tableKey()
		if changed, is := byTable[k]; is {
			byTable[k] = append(changed, have[i])
		} else {
			routes = append(routes, have[i])
		}
	}
	for i := range steps {
		if s := &steps[i]; s.IsRoute {
			k := s.Route.tableKey()
			byTable[k] = tableAfter(byTable[k], s)
		}
	}
	for i := range steps {
		if s := &steps[i]; s.IsRoute {
			k := s.Route.tableKey()
			routes = append(routes, byTable[k]...)
			delete(byTable, k)
		}
	}
	return routes
}

// tableAfter returns the routes of one table after a step.
func tableAfter(routes []Route, s *Step) []Route {
	if s.Op == Delete {
		return slices.DeleteFunc(routes, func(r Route) bool { return r == s.Route })
	}
	if i := slices.IndexFunc(routes, func(r Route) bool { return r.replacedBy(s.Route) }); i >= 0 {
		routes[i] = s.Route
		return routes
	}
	return append(routes, s.Route)
}
