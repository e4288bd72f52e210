package policy

// Op is what a step does.
type Op byte

// The operations. A rule or a route is added or deleted, a route by replacing the
// one in its place; a link's group is set.
const (
	Add    Op = '+'
	Delete Op = '-'
	Set    Op = '='
)

// Step is one change of the kernel's state: of the link where Op is Set, of the
// route where IsRoute is set, of the rule otherwise.
type Step struct {
	Op      Op
	IsRoute bool
	Rule    Rule
	Route   Route
	Link    LinkGroup
}

// takenOver ends the text of a step that deletes a rule of the original shell
// script, which one of ours has replaced.
const takenOver = " (taken over)"

// String returns the step's one text form: "+ rule 4 32754 fwmark 0x2005
// unreachable", "= link wan1 group 77".
func (s Step) String() string {
	b := append(make([]byte, 0, textSize), byte(s.Op), ' ')
	switch {
	case s.Op == Set:
		return string(s.Link.appendText(b))
	case s.IsRoute:
		return string(s.Route.appendText(b))
	}
	b = s.Rule.appendText(b)
	if !s.Rule.Ours() {
		b = append(b, takenOver...)
	}
	return string(b)
}

// Pair reports whether the step is about a rule of a pair, one that selects by
// source.
func (s Step) Pair() bool { return !s.IsRoute && s.Rule.sourced() }
