package converge

import (
	"context"
	"slices"
	"testing"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/logging"
	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/config"
)

// noted is a host that notes what is read of it; its configuration is intents.
type noted struct {
	parts   []decide.Parts
	intents []fwmark.Intent
}

func (n *noted) Observe(_ context.Context, o *decide.Observation, parts decide.Parts) error {
	n.parts = append(n.parts, parts)
	if parts.Has(decide.Configuration) {
		o.Config = config.Config{Priority: fwmark.DefaultPriority, Group: fwmark.DefaultGroup, Intents: n.intents}
	}
	return nil
}

func (n *noted) Apply(context.Context, []decide.Step) (out decide.Outcome) { return out }

// TestNext: a run that goes on from another one reads anew what is stale, and all
// where the configuration has changed.
func TestNext(t *testing.T) {
	host := &noted{}
	run := &Run{Host: host, State: state.Dir(t.TempDir()), Log: logging.Discard(), MarkDue: func(...string) {}}
	const fresh = decide.Interfaces | decide.Nftables
	var known decide.Observation
	for _, c := range []struct {
		name   string
		change func()
		fresh  decide.Parts
		want   []decide.Parts
	}{
		{"the first one", func() {}, 0, []decide.Parts{decide.Everything}},
		{"the next one", func() {}, fresh, []decide.Parts{decide.Configuration, decide.Everything &^ decide.Configuration &^ fresh}},
		{"another configuration", func() { host.intents = []fwmark.Intent{{Uplink: "wan1"}} }, fresh, []decide.Parts{decide.Configuration, decide.Everything &^ decide.Configuration}},
	} {
		c.change()
		host.parts = nil
		run.Next(known, c.fresh)
		d, err := run.Look(context.Background())
		if err != nil || !slices.Equal(host.parts, c.want) {
			t.Errorf("%s: %v was read, %v", c.name, host.parts, err)
		}
		known = d.Observation
	}
}

// TestNextAfterAnotherRun: nothing is fresh once another run has held the lock.
func TestNextAfterAnotherRun(t *testing.T) {
	host := &noted{}
	run := &Run{Host: host, State: state.Dir(t.TempDir()), Log: logging.Discard(), MarkDue: func(...string) {}}
	d, _ := run.Converge(context.Background(), time.Second)
	for _, another := range []bool{false, true} {
		if another {
			run.State.MarkRun()
		}
		host.parts = nil
		run.Next(d.Observation, decide.Interfaces)
		d, _ = run.Converge(context.Background(), time.Second)
		read := slices.ContainsFunc(host.parts, func(p decide.Parts) bool { return p.Has(decide.Interfaces) })
		if read != another {
			t.Errorf("another run: %t, interfaces read: %t", another, read)
		}
	}
}
