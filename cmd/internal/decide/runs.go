package decide

import (
	"fmt"
	"slices"

	"wg-multihome/fwmark"
)

// byRun is what an uplink that processes of `run` live on says of its mark, in
// place of a stanza or a file.
const byRun = "commands of `run`, which have it"

// intents returns the configuration's, and those of uplinks that it gives no mark
// any more while processes of `run` live there: the mark that stands for them is
// their uplink's until they end. Another uplink that is to get the mark meets it
// as it would meet one that is configured. Where the uplink pins devices or services
// and has no mark for them, that is an error, which leaves it undecided whose the
// kept mark is.
func (d *Decision) intents() ([]fwmark.Intent, []fwmark.Problem) {
	intents, problems := slices.Clone(d.Config.Intents), slices.Clone(d.Config.Problems)
	for _, run := range d.Cgroups.Runs {
		has := func(in fwmark.Intent) bool {
			return !in.Mark.IsZero() && (run.Uplink != "" && in.Uplink == run.Uplink || run.Uplink == "" && in.Mark.Value == run.Value)
		}
		c, stands := d.claimOf(run)
		if !run.Lives || !stands || slices.ContainsFunc(intents, has) {
			continue
		}
		if run.Uplink != "" {
			c.Uplink = run.Uplink
		}
		d.outlived = append(d.outlived, c)
		i := slices.IndexFunc(intents, func(in fwmark.Intent) bool { return in.Uplink == c.Uplink && in.Options() })
		switch {
		case i < 0:
			intents = append(intents, fwmark.Intent{Uplink: c.Uplink, Origin: byRun, Mark: c.Mark})
		case len(intents[i].Devices) > 0 || intents[i].Cgroups != nil:
			text := fmt.Sprintf("mark %s is not in %s, and is kept for %s", owned(c), intents[i].Origin, byRun)
			problems = append(problems, fwmark.Problem{Text: text, Marks: []fwmark.Mark{c.Mark}})
		default:
			intents[i].Mark = c.Mark
		}
	}
	return intents, problems
}

// claimOf returns the mark that stands for a slice of `run`: the one that its
// sockets or its packets get or, where others have taken our table away, the one
// that leads to its uplink.
func (d *Decision) claimOf(run RunSlice) (fwmark.Claim, bool) {
	gives := d.Sockets.Have.Cgroups[d.Cgroups.Names[run.Cgroup.ID]].Marks()
	for _, is := range []func(fwmark.Claim) bool{
		func(c fwmark.Claim) bool { return slices.Contains(gives, c.Mark) },
		func(c fwmark.Claim) bool { return d.getsMark(c.Mark, run.Cgroup.ID) && c.Uplink == run.Uplink },
		func(c fwmark.Claim) bool { return d.getsMark(c.Mark, run.Cgroup.ID) },
		func(c fwmark.Claim) bool { return run.Uplink != "" && c.Uplink == run.Uplink },
		func(c fwmark.Claim) bool { return c.Mark.Value == run.Value },
	} {
		if i := slices.IndexFunc(d.stands, func(c fwmark.Claim) bool { return !c.Full && is(c) }); i >= 0 {
			return d.stands[i], true
		}
	}
	return fwmark.Claim{}, false
}

// holdOutlived has the marks that processes of `run` outlive be held as they
// stand: nothing else gets them.
func (d *Decision) holdOutlived() {
	for i := range d.Pins {
		p := &d.Pins[i]
		p.Kept = p.Kept || d.Outlived(p.Mark)
	}
}

// Outlived reports whether a mark is configured no longer, and kept for commands
// of `run`.
func (d Decision) Outlived(m fwmark.Mark) bool {
	return slices.ContainsFunc(d.outlived, func(c fwmark.Claim) bool { return c.Mark == m })
}

// KeptForRuns says so of each such mark.
func (d Decision) KeptForRuns() []string {
	var say []string
	for _, c := range d.outlived {
		say = append(say, fmt.Sprintf("mark %s is configured no longer, and is kept while commands of `run` have it: once they have ended, `wg-multihome sync` takes it away", owned(c)))
	}
	return say
}
