package decide

import (
	"slices"
	"strings"
	"testing"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/config"
	"wg-multihome/nft"
	"wg-multihome/policy"
)

// TestRunsOutliveTheirMark: while commands of `run` live on an uplink whose mark
// the configuration has no more, nothing of the mark goes and it is said; once
// they have ended all of it goes.
func TestRunsOutliveTheirMark(t *testing.T) {
	mark := fwmark.Mark{Value: 0x2005, Mask: fwmark.FullMask}
	for name, c := range map[string]struct {
		intents []fwmark.Intent
		run     RunSlice
		system  bool     // it is no person's run
		flushed bool     // others have taken our table away
		say     []string // what each problem has; none: it is no error
	}{
		"the uplink is configured no more": {run: RunSlice{Uplink: "up2", Value: 0x2005}},
		"it has a gateway still":           {run: RunSlice{Uplink: "up2", Value: 0x2005}, intents: []fwmark.Intent{withGateway("up2")}},
		"the slice is of another mark":     {run: RunSlice{Uplink: "up2", Value: 0x300}},
		"the slice goes by its mark":       {run: RunSlice{Value: 0x2005}},
		"the table was taken away":         {run: RunSlice{Uplink: "up2", Value: 0x2005}, flushed: true},
		"both":                             {run: RunSlice{Value: 0x2005}, flushed: true},
		"a renewal finds it so":            {run: RunSlice{Uplink: "up2", Value: 0x2005}, system: true, say: []string{"until a person calls"}},
		"another uplink gets the mark": {
			run: RunSlice{Uplink: "up2", Value: 0x2005}, intents: []fwmark.Intent{{Uplink: "up1", Origin: "file", Mark: mark}}, say: []string{"commands of `run`"},
		},
		"another uplink gets one that overlaps": {
			run: RunSlice{Uplink: "up2", Value: 0x2005}, intents: []fwmark.Intent{{Uplink: "up1", Origin: "file", Mark: fwmark.Mark{Value: 0x2000, Mask: 0xff00}}},
			say: []string{"commands of `run`"},
		},
		"the uplink pins a device, and another one gets the mark": {
			run:     RunSlice{Uplink: "up2", Value: 0x2005},
			intents: []fwmark.Intent{{Uplink: "up1", Origin: "file", Mark: mark}, {Uplink: "up2", Origin: "file", Devices: []string{"wg0"}}},
			say:     []string{"commands of `run`", "without a fwmark"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.run.Cgroup, c.run.Lives = nft.Cgroup{ID: 7, Level: 2}, true
			o := observedWithRun(mark, c.run)
			if c.flushed {
				o.Table = Table{}
			}
			o.Config.Intents = c.intents
			d := Decide(o, Memory{Person: !c.system})
			for _, line := range d.Plan() {
				if strings.HasPrefix(line, "-") && strings.Contains(line, "0x2005") {
					t.Errorf("it would go: %s", line)
				}
			}
			d = wentThrough(d)
			if !policy.Guarded(d.Facts, mark) || !policy.Routed(d.Facts, mark)[fwmark.IPv4] {
				t.Error("the mark does not lead to its uplink")
			}
			if ids := d.Table.Have.Sets[nft.PathsSet(mark)].Cgroups; !slices.Equal(ids, []uint64{7}) {
				t.Errorf("the mark's set holds %v", ids)
			}
			if i := slices.IndexFunc(d.Table.Have.Claims(), func(c fwmark.Claim) bool { return c.Mark == mark }); i < 0 || d.Table.Have.Claims()[i].Uplink != "up2" {
				t.Errorf("the lock holds %+v", d.Table.Have.Claims())
			}
			if say := d.KeptForRuns(); len(say) != 1 || !strings.Contains(say[0], `0x2005 of uplink "up2"`) {
				t.Errorf("it is said: %q", say)
			}
			if len(d.Problems) != len(c.say) {
				t.Errorf("problems: %v", d.Problems)
			}
			for i := range min(len(c.say), len(d.Problems)) {
				if !strings.Contains(d.Problems[i].Text, c.say[i]) {
					t.Errorf("problem %q, want %q", d.Problems[i].Text, c.say[i])
				}
			}
			o = d.Observation
			o.Cgroups.Runs[0].Lives = false
			o.Config.Intents = slices.DeleteFunc(slices.Clone(c.intents), func(in fwmark.Intent) bool { return len(in.Devices) > 0 }) // an error keeps it
			d = wentThrough(Decide(o, Memory{Person: true}))
			if i := slices.IndexFunc(policy.Standing(d.Facts), func(c fwmark.Claim) bool { return c.Mark == mark && c.Uplink == "up2" }); i >= 0 || len(d.KeptForRuns()) > 0 {
				t.Errorf("once they have ended there are %v and it is said: %q", policy.Standing(d.Facts), d.KeptForRuns())
			}
		})
	}
}

func withGateway(uplink string) fwmark.Intent {
	in := fwmark.Intent{Uplink: uplink, Origin: "file"}
	in.Gateways[fwmark.IPv4] = upstream
	return in
}

// observedWithRun is a host where a mark leads to up2, and a slice of `run` gets
// it.
func observedWithRun(mark fwmark.Mark, run RunSlice) Observation {
	o := Observation{Config: config.Config{Priority: policy.DefaultPriority, Intents: []fwmark.Intent{{Uplink: "up2", Mark: mark}}}, Facts: leadingTo("up2", mark)}
	o.Cgroups.Runs = []RunSlice{run}
	return wentThrough(Decide(o, Memory{Person: true})).Observation
}

// wentThrough is a decision about what is observed once all steps were made.
func wentThrough(d Decision) Decision {
	for range Rounds {
		for _, p := range Phases {
			d = d.after(d.Steps(p))
		}
	}
	return d
}
