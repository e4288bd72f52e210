package policy

import (
	"cmp"
	"slices"

	"wg-multihome/fwmark"
)

// State is a set of rules and routes: what we want, or what stands of it.
type State struct {
	Rules  []Rule
	Routes []Route
}

// StateAfter returns what have becomes when steps are done, one after the
// other: what one step adds a later one may delete. Rules come out in the order
// in which the kernel asks them.
func StateAfter(have State, steps []Step) State {
	rules := slices.Clone(have.Rules)
	stands := ruleSet(have.Rules)
	routes := routesByTable(have.Routes)
	var tables []tableKey // of routes that are new or changed
	for _, s := range steps {
		switch k := (tableKey{s.Route.Family, s.Route.Table}); {
		case s.IsRoute:
			routes[k] = routesAfter(routes[k], s)
			tables = append(tables, k)
		case s.Op == Delete:
			delete(stands, s.Rule)
		case !stands[s.Rule]:
			stands[s.Rule] = true
			rules = append(rules, s.Rule)
		}
	}
	var out State
	for _, r := range rules {
		if stands[r] {
			out.Rules = append(out.Rules, r)
			delete(stands, r) // a dump of the kernel may have repeated it
		}
	}
	slices.SortStableFunc(out.Rules, func(a, b Rule) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Priority, b.Priority))
	})
	for _, r := range have.Routes {
		tables = append(tables, tableKey{r.Family, r.Table})
	}
	for _, k := range tables {
		out.Routes = append(out.Routes, routes[k]...)
		delete(routes, k)
	}
	return out
}

// routesAfter returns the routes of one table after a step.
func routesAfter(routes []Route, s Step) []Route {
	if s.Op == Delete {
		return slices.DeleteFunc(routes, func(r Route) bool { return r == s.Route })
	}
	if i := slices.IndexFunc(routes, func(r Route) bool { return r.replacedBy(s.Route) }); i >= 0 {
		routes[i] = s.Route
		return routes
	}
	return append(routes, s.Route)
}

// tableKey names a routing table.
type tableKey struct {
	family fwmark.Family
	table  uint32
}

func ruleSet(rules []Rule) map[Rule]bool {
	set := make(map[Rule]bool, len(rules))
	for _, r := range rules {
		set[r] = true
	}
	return set
}

func routesByTable(routes []Route) map[tableKey][]Route {
	m := make(map[tableKey][]Route, len(routes))
	for _, r := range routes {
		k := tableKey{r.Family, r.Table}
		m[k] = append(m[k], r)
	}
	return m
}
