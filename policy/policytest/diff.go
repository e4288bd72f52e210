package policytest

import "wg-multihome/policy"

// Plan is the way from one state to another as a run goes it, without what others
// have to do between its two halves.
type Plan struct {
	Open, Close []policy.Step
}

// Empty reports whether there is nothing to do.
func (p Plan) Empty() bool { return len(p.Open)+len(p.Close) == 0 }

// Diff plans the way from have to want, on the assumption that no step fails. Link
// groups go once the rules that need them are gone, so Close is asked twice.
func Diff(have, want policy.State) Plan {
	open := policy.Open(have, want)
	have = policy.StateAfter(have, open)
	steps := policy.Close(have, want, nil)
	have = policy.StateAfter(have, steps)
	return Plan{Open: open, Close: append(steps, policy.Close(have, want, nil)...)}
}
