package policy

import (
	"cmp"
	"slices"
)

// After returns the state that have becomes when all steps are done, one after
// the other: what one adds a later one may delete. Rules come out in the order
// in which the kernel asks them.
func After(have State, steps []Step) State {
	rules := slices.Clone(have.Rules)
	stands := ruleSet(have.Rules)
	routes := routesByTable(have.Routes)
	var tables []tableKey // of routes that are new or changed
	for _, s := range steps {
		switch k := (tableKey{s.Route.Family, s.Route.Table}); {
		case s.IsRoute:
			routes[k] = after(routes[k], s)
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

// after makes a step on the routes of one table.
func after(routes []Route, s Step) []Route {
	if s.Op == Delete {
		return slices.DeleteFunc(routes, func(r Route) bool { return r == s.Route })
	}
	if i := slices.IndexFunc(routes, func(r Route) bool { return r.replacedBy(s.Route) }); i >= 0 {
		routes[i] = s.Route
		return routes
	}
	return append(routes, s.Route)
}
