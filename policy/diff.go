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
//  1. every missing unreachable;
//  2. deletions of what lets too much through: a mark's look-up of a table that
//     is not its any more (adding first leaks), a suppress rule that is too
//     short now;
//  3. routes;
//  4. suppress rules, look-ups, pairs.
func Open(have, want State) []Step {
	stands := ruleSet(have.Rules)
	missing := slices.DeleteFunc(slices.Clone(want.Rules), func(r Rule) bool { return stands[r] })
	var steps []Step
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
	steps = append(steps, missingRoutes(have, want)...)
	add(func(r Rule) bool { return r.marked() && r.isSuppress() })
	add(func(r Rule) bool { return r.marked() && r.isLookup() })
	add(func(r Rule) bool { return r.sourced() && r.isSuppress() })
	add(func(r Rule) bool { return r.sourced() && r.isLookup() })
	return steps
}

// bridge guards marks that are new while old pairs stand in front of their
// unreachable (B moved further back in the same run): until the pairs are
// gone, an unreachable at the first pair's preference less one holds them. It
// is obsolete from the start, and goes with the blocks.
func bridge(have, want State) []Step {
	var steps []Step
	for _, family := range fwmark.Families {
		front, any := firstPair(have.Rules, family)
		if !any || front == 0 {
			continue
		}
		guarded := map[fwmark.Mark]bool{}
		for _, r := range have.Rules {
			if r.Family == family && r.marked() && r.isUnreachable() && r.Priority <= front {
				guarded[r.Mark] = true
			}
		}
		for _, r := range want.Rules {
			if r.Family == family && r.isUnreachable() && r.Priority >= front && !guarded[r.Mark] {
				steps = append(steps, Step{Op: Add, Rule: unreachableRule(family, front-1, r.Mark)})
			}
		}
	}
	return steps
}

func firstPair(rules []Rule, family fwmark.Family) (uint32, bool) {
	var first uint32
	any := false
	for _, r := range rules {
		if r.Family == family && r.sourced() && (!any || r.Priority < first) {
			first, any = r.Priority, true
		}
	}
	return first, any
}

func tooWide(have, want State) []Step {
	type lookup struct {
		family fwmark.Family
		mark   fwmark.Mark
	}
	table := map[lookup]uint32{}
	marked := map[lookup]bool{}
	length := map[fwmark.Family]uint32{}
	for _, r := range want.Rules {
		switch {
		case r.marked() && r.isLookup():
			table[lookup{r.Family, r.Mark}] = r.Table
		case r.marked() && r.isUnreachable():
			marked[lookup{r.Family, r.Mark}] = true
		}
		if r.isSuppress() {
			length[r.Family] = max(length[r.Family], r.Suppress)
		}
	}
	var steps []Step
	for _, r := range have.Rules {
		k := lookup{r.Family, r.Mark}
		switch {
		case r.marked() && r.isLookup() && marked[k] && r.Table != table[k],
			r.isSuppress() && r.Suppress < length[r.Family]:
			steps = append(steps, Step{Op: Delete, Rule: r})
		}
	}
	return steps
}

func missingRoutes(have, want State) []Step {
	stands := routesByTable(have.Routes)
	var steps []Step
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
// In 5 and 6, what has a successor in want that does not stand yet stays.
func Close(have, want State, held []fwmark.Mark) []Step {
	c := closer{want: ruleSet(want.Rules), have: ruleSet(have.Rules), marks: map[fwmark.Mark]bool{}, successors: map[Rule]Rule{}}
	for _, r := range want.Rules {
		c.successors[place(r)] = r
		if r.marked() {
			c.marks[r.Mark] = true
		}
	}
	for _, m := range held {
		c.marks[m] = true
	}
	stay := func(r Rule) bool { return r.marked() && c.marks[r.Mark] }
	goes := func(r Rule) bool { return r.marked() && !c.marks[r.Mark] }
	pair := func(r Rule) bool { return !r.marked() }
	is := func(of func(Rule) bool, role func(Rule) bool) func(Rule) bool {
		return func(r Rule) bool { return of(r) && role(r) }
	}
	for _, of := range []func(Rule) bool{
		is(pair, Rule.isLookup), is(pair, func(r Rule) bool { return !r.isLookup() }),
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
	marks      map[fwmark.Mark]bool
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

// After returns the state that have becomes when all steps are done.
func After(have State, steps []Step) State {
	gone := map[Step]bool{}
	out := State{}
	replaced := map[tableKey][]Route{}
	for _, s := range steps {
		switch {
		case s.Op == Delete:
			gone[s] = true
		case s.IsRoute:
			k := tableKey{s.Route.Family, s.Route.Table}
			replaced[k] = append(replaced[k], s.Route)
		}
	}
	for _, r := range have.Rules {
		if !gone[Step{Op: Delete, Rule: r}] {
			out.Rules = append(out.Rules, r)
		}
	}
	for _, r := range have.Routes {
		if !gone[Step{Op: Delete, IsRoute: true, Route: r}] && !slices.ContainsFunc(replaced[tableKey{r.Family, r.Table}], r.replacedBy) {
			out.Routes = append(out.Routes, r)
		}
	}
	for _, s := range steps {
		switch {
		case s.Op != Add:
		case s.IsRoute:
			out.Routes = append(out.Routes, s.Route)
		default:
			out.Rules = append(out.Rules, s.Rule)
		}
	}
	return out
}
