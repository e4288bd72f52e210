package policy

import (
	"slices"

	"wg-multihome/fwmark"
)

// Op is what a step does.
type Op byte

// The operations on a rule or a route. A route is added by replacing the one
// in its place.
const (
	Add    Op = '+'
	Delete Op = '-'
)

// Step is one change of the kernel's state: of the rule, or of the route where
// Route is set.
type Step struct {
	Op      Op
	IsRoute bool
	Rule    Rule
	Route   Route
}

// String returns the step's one text form: "+ rule 4 32754 fwmark 0x2005
// unreachable".
func (s Step) String() string {
	text := string(s.Op) + " "
	if s.IsRoute {
		return text + s.Route.String()
	}
	text += s.Rule.String()
	if !s.Rule.Ours() {
		text += takenOver
	}
	return text
}

// Plan is the way from one state to another, in an order in which no step
// opens a leak that was not there before, wherever it is cut short.
type Plan struct {
	Open  []Step // before nftables and WireGuard follow
	Close []Step // after them
}

// Empty reports whether there is nothing to do.
func (p Plan) Empty() bool { return len(p.Open)+len(p.Close) == 0 }

// Diff plans the way from have to want, on the assumption that each step of
// Open is done. Close plans the second half anew, from what really stands.
func Diff(have, want State) Plan {
	open := Open(have, want)
	return Plan{Open: open, Close: Close(After(have, open), want, nil)}
}

// Open returns the steps that add, in this order:
//
//  1. every missing unreachable, and those that hold marks in the meantime
//     (see bridge);
//  2. deletions of what lets too much through: a mark's look-up of a table that
//     is not its any more (adding first leaks), a suppress rule that is too
//     short now;
//  3. routes;
//  4. suppress rules, look-ups, pairs.
func Open(have, want State) []Step {
	stands := ruleSet(have.Rules)
	var missing []Rule
	if len(stands) == 0 {
		missing = want.Rules
	} else {
		missing = slices.DeleteFunc(slices.Clone(want.Rules), func(r Rule) bool { return stands[r] })
	}
	routes := missingRoutes(have, want)
	steps := make([]Step, 0, len(missing)+len(routes))
	add := func(of func(Rule) bool) {
		for _, r := range missing {
			if of(r) {
				steps = append(steps, Step{Op: Add, Rule: r})
			}
		}
	}
	add(Rule.isUnreachable)
	steps = append(steps, bridge(have, want)...)
	steps = append(steps, tooWide(have, want)...)
	steps = append(steps, routes...)
	add(func(r Rule) bool { return r.marked() && r.isSuppress() })
	add(func(r Rule) bool { return r.marked() && r.isLookup() })
	add(func(r Rule) bool { return r.sourced() && r.isSuppress() })
	add(func(r Rule) bool { return r.sourced() && r.isLookup() })
	return steps
}

func missingRoutes(have, want State) []Step {
	stands := routesByTable(have.Routes)
	steps := make([]Step, 0, len(want.Routes))
	for _, r := range want.Routes {
		if !slices.ContainsFunc(stands[tableKey{r.Family, r.Table}], r.same) {
			steps = append(steps, Step{Op: Add, IsRoute: true, Route: r})
		}
	}
	return steps
}

// Close returns the steps that take away, from what stands after Open, in this
// order:
//
//  5. obsolete pairs, before the blocks: an old pair may stand in front of a
//     new unreachable when B moves by little;
//  6. obsolete blocks of marks that stay: unreachable, look-up, suppress;
//  7. blocks of marks that go, but for those held: look-up, suppress,
//     unreachable;
//  8. routes.
//
// In 5 and 6, what has a successor in want that does not stand yet stays; and so
// does a block while such a pair stands in front of the new unreachable.
func Close(have, want State, held []fwmark.Mark) []Step {
	c := closer{want: ruleSet(want.Rules), have: ruleSet(have.Rules), successors: map[Rule]Rule{}}
	pinned, kept := map[fwmark.Mark]bool{}, map[fwmark.Mark]bool{}
	for _, r := range want.Rules {
		c.successors[place(r)] = r
		if r.marked() {
			pinned[r.Mark] = true
		}
	}
	for _, m := range held {
		kept[m] = true
	}
	stay := func(r Rule) bool { return r.marked() && pinned[r.Mark] }
	goes := func(r Rule) bool { return r.marked() && !pinned[r.Mark] && !kept[r.Mark] }
	pair := func(r Rule) bool { return !r.marked() }
	is := func(of func(Rule) bool, role func(Rule) bool) func(Rule) bool {
		return func(r Rule) bool { return of(r) && role(r) }
	}
	c.remove(have.Rules, is(pair, Rule.isLookup))
	c.remove(have.Rules, is(pair, func(r Rule) bool { return !r.isLookup() }))
	stay = is(stay, c.unneeded(have, want))
	for _, of := range []func(Rule) bool{
		is(stay, Rule.isUnreachable), is(stay, Rule.isLookup), is(stay, other),
		is(goes, Rule.isLookup), is(goes, other), is(goes, Rule.isUnreachable),
	} {
		c.remove(have.Rules, of)
	}
	return append(c.steps, obsoleteRoutes(have, want)...)
}

func other(r Rule) bool { return !r.isLookup() && !r.isUnreachable() }

type closer struct {
	want, have map[Rule]bool
	successors map[Rule]Rule
	steps      []Step
}

func (c *closer) remove(rules []Rule, of func(Rule) bool) {
	for _, r := range rules {
		if c.want[r] || !of(r) {
			continue
		}
		if s, ok := c.successors[place(r)]; ok && !c.have[s] {
			continue
		}
		// The script's pair goes only when ours stands in its place.
		if _, ok := c.successors[place(r)]; !ok && !r.Ours() && !r.marked() {
			continue
		}
		c.steps = append(c.steps, Step{Op: Delete, Rule: r})
	}
}

// unneeded returns whether a rule of an obsolete block may go: not while a pair
// that is left stands in front of the unreachable that is to follow.
func (c *closer) unneeded(have, want State) func(Rule) bool {
	going := map[Rule]bool{}
	for _, s := range c.steps {
		going[s.Rule] = true
	}
	left := map[fwmark.Family]uint32{} // the first such pair
	for _, r := range have.Rules {
		if at, any := left[r.Family]; r.sourced() && !c.want[r] && !going[r] && (!any || r.Priority < at) {
			left[r.Family] = r.Priority
		}
	}
	next := map[markKey]uint32{}
	for _, r := range want.Rules {
		if r.marked() && r.isUnreachable() {
			next[markKey{r.Family, r.Mark}] = r.Priority
		}
	}
	return func(r Rule) bool {
		at, any := left[r.Family]
		return !any || at > next[markKey{r.Family, r.Mark}]
	}
}

// place is what a rule and its successor have in common.
func place(r Rule) Rule {
	r.Priority, r.Protocol = 0, 0
	if r.isSuppress() {
		r.Suppress = 0
	}
	return r
}

func obsoleteRoutes(have, want State) []Step {
	wanted, stands := routesByTable(want.Routes), routesByTable(have.Routes)
	var steps []Step
	for _, r := range have.Routes {
		k := tableKey{r.Family, r.Table}
		// What a wanted route will replace stays until that one stands.
		coming := func(w Route) bool { return r.replacedBy(w) && !slices.ContainsFunc(stands[k], w.same) }
		if slices.ContainsFunc(wanted[k], r.same) || slices.ContainsFunc(wanted[k], coming) {
			continue
		}
		steps = append(steps, Step{Op: Delete, IsRoute: true, Route: r})
	}
	return steps
}

// replacedBy reports whether adding o replaces r.
func (r Route) replacedBy(o Route) bool {
	return r.Family == o.Family && r.Table == o.Table && r.Dst == o.Dst && r.Metric == o.Metric
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
