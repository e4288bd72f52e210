package policy

// Plan is the way from one state to another, in an order in which no step
// opens a leak that was not there before, wherever it is cut short.
type Plan struct {
	Open  []Step // before nftables and WireGuard follow
	Close []Step // after them
}

// Empty reports whether there is nothing to do.
func (p Plan) Empty() bool { return len(p.Open)+len(p.Close) == 0 }

// Diff plans the way from have to want, on the assumption that each step of
// Open is done. The caller plans Close anew, from what then really stands.
func Diff(have, want State) Plan {
	open := Open(have, want)
	have = StateAfter(have, open)
	steps := Close(have, want, nil)
	have = StateAfter(have, steps)
	return Plan{Open: open, Close: append(steps, resetGroups(have, want)...)}
}
