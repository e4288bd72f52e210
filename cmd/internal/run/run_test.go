package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/logging"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/nft/cgroup"
	"wg-multihome/policy"
)

func TestMain(m *testing.M) {
	if status, inside := Inside(os.Args); inside {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mark is the test's own: the machine's cgroups are everybody's.
func mark() fwmark.Mark {
	return fwmark.Mark{Value: 0xfd000000 | uint32(os.Getpid()), Mask: fwmark.FullMask}
}

// uplink is likewise.
func uplink() string { return fmt.Sprintf("u%d", os.Getpid()) }

// view is one where a command can be run on up2, once rules stand.
func view(rules ...policy.Rule) decide.Decision {
	v := decide.Decision{
		Uplinks: []fwmark.Uplink{{
			Name: uplink(), Present: true, Up: true,
			Address:  [2]netip.Addr{netip.MustParseAddr("198.51.100.10")},
			Gateways: [2]netip.Addr{netip.MustParseAddr("198.51.100.1")},
		}},
		Pins: []fwmark.Pin{{Mark: mark(), Uplink: uplink()}},
	}
	v.Facts.Families = [2]bool{true, true}
	v.Facts.Rules = rules
	return v
}

// block are the rules of the mark in both families, as Want has them.
func block(t *testing.T) []policy.Rule {
	t.Helper()
	v := view()
	v.Facts.Links = []policy.Link{{Name: uplink(), Up: true}}
	return policy.Want(v.Facts, v.Uplinks, v.Pins, policy.DefaultPriority).State.Rules
}

// host answers with one view before the pipeline ran, and with another then.
type fakeHost struct {
	before, after decide.Decision
	report        report.Report
	ran           func()
	unpinned      bool // the set does not get the slice
	runs          int
}

func (h *fakeHost) Look(context.Context) (decide.Decision, error) { return h.before, nil }

func (h *fakeHost) Sync(context.Context, time.Duration) report.Report {
	h.before = h.after
	if h.runs++; h.runs > 1 { // after the command
		return report.Report{}
	}
	if m, err := cgroup.Find(); err == nil && !h.unpinned {
		if slice, ok, _ := m.Resolve(cgroup.RunSlice(mark(), uplink())); ok {
			h.before.Table.Have.Sets = map[string]nft.Set{nft.PathsSet(mark()): {Cgroups: []uint64{1, slice.ID}}}
		}
	}
	if h.ran != nil {
		h.ran()
	}
	return h.report
}

// run runs `touch FILE`, and reports whether it was started, and what was said.
func run(t *testing.T, h *fakeHost) (status int, started bool, said string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "started")
	r, w, err := os.Pipe()
	must(t, err)
	status, err = Runner{Host: h, Log: logging.New(w, false)}.Run(context.Background(), Request{Uplink: uplink(), Command: []string{"touch", file}})
	_ = w.Close()
	var text bytes.Buffer
	_, readErr := io.Copy(&text, r)
	must(t, readErr)
	if err != nil {
		text.WriteString(err.Error())
	}
	_, err = os.Stat(file)
	m, findErr := cgroup.Find()
	must(t, findErr)
	if left, err := m.Remove(cgroup.RunSlice(mark(), uplink())); left || err != nil {
		t.Errorf("a cgroup is left: %v, %v", left, err)
	}
	_ = os.Remove(filepath.Join(m.Point, cgroup.RunsSlice)) // others may run there
	return status, err == nil, text.String()
}

func TestWhatComesOfThePipelineCounts(t *testing.T) {
	rules := block(t)
	without := func(drop func(policy.Rule) bool) []policy.Rule {
		return slices.DeleteFunc(slices.Clone(rules), drop)
	}
	kept, moved, gone := view(rules...), view(rules...), view(rules...)
	kept.Pins = []fwmark.Pin{{Mark: mark(), Uplink: uplink(), Kept: true}}
	moved.Pins = []fwmark.Pin{{Mark: fwmark.Mark{Value: 5, Mask: fwmark.FullMask}, Uplink: uplink()}}
	gone.Uplinks[0].Gateways = [2]netip.Addr{}
	damaged, unknown := view(rules...), view(rules...)
	damaged.Locks.Pins = damaged.Pins // whose chains do not stand
	unknown.Table.Missing = errors.New("no nf_tables")
	for name, c := range map[string]struct {
		after decide.Decision
		errs  []error
		say   string // "": the command starts
	}{
		"all stands":                  {view(rules...), nil, ""},
		"another uplink's step fails": {view(rules...), []error{errors.New("of up1")}, ""},
		"no guards":                   {view(), nil, "has no guards"},
		"guards of one family": {view(without(func(r policy.Rule) bool {
			return r.Family == fwmark.IPv6 && strings.Contains(r.String(), "unreachable")
		})...), nil, "has no guards"},
		"no look-up": {view(without(func(r policy.Rule) bool {
			return strings.Contains(r.String(), "lookup") && !strings.Contains(r.String(), "suppress")
		})...), nil, "has no look-up"},
		"the mark is held":      {kept, nil, "merely held"},
		"the mark is new":       {moved, nil, "has mark 0x5 now"},
		"the gateway went away": {gone, nil, "has no gateway"},
		"a chain is not whole":  {damaged, nil, "is not pinned"},
		"no nftables":           {unknown, nil, "no nf_tables"},
	} {
		h := &fakeHost{before: view(), after: c.after, report: report.Report{Errs: c.errs}}
		status, started, said := run(t, h)
		if started != (c.say == "") || !strings.Contains(said, c.say) || (status == report.Done) != started {
			t.Errorf("%s: status %d, started %v, said %q", name, status, started, said)
		}
		for _, err := range c.errs {
			if !strings.Contains(said, err.Error()) {
				t.Errorf("%s: %q was not said", name, err)
			}
		}
	}
}

// TestSetWithoutTheSlice: everything else may stand.
func TestSetWithoutTheSlice(t *testing.T) {
	h := &fakeHost{before: view(), after: view(block(t)...), unpinned: true}
	if _, started, said := run(t, h); started || !strings.Contains(said, "is not pinned") {
		t.Errorf("started %v, said %q", started, said)
	}
}

// TestSliceIsHeld: while the pipeline runs a process lives in the slice, so
// that its id stays, and others' clean-up takes nothing away.
func TestSliceIsHeld(t *testing.T) {
	m, err := cgroup.Find()
	must(t, err)
	var before cgroup.Node
	h := &fakeHost{before: view(), after: view(block(t)...), ran: func() {
		var ok bool
		before, ok, err = m.Resolve(cgroup.RunSlice(mark(), uplink()))
		if !ok || err != nil {
			t.Errorf("slice: %v, %v", ok, err)
		}
		if populated, err := m.Populated(cgroup.RunSlice(mark(), uplink())); !populated || err != nil {
			t.Errorf("populated %v, %v", populated, err)
		}
		if _, err := m.RemoveIdle(cgroup.RunSlice(mark(), uplink())); err != nil {
			t.Error(err)
		}
		if after, _, _ := m.Resolve(cgroup.RunSlice(mark(), uplink())); after != before {
			t.Errorf("slice %v, and then %v", before, after)
		}
	}}
	if _, started, said := run(t, h); !started {
		t.Errorf("not started: %s", said)
	}
}

// TestPartOfAnOrder is none.
func TestPartOfAnOrder(t *testing.T) {
	var whole bytes.Buffer
	want := order{Path: "/bin/true", Args: []string{"true", "\xff"}, Environment: []string{"A=\xfe"}, Privileges: &privileges{1, 2, []int{3}}, Foreground: true}
	must(t, want.write(&whole))
	for n := range whole.Len() {
		if o, err := readOrder(bytes.NewReader(whole.Bytes()[:n])); err == nil {
			t.Errorf("%d of %d bytes: %+v", n, whole.Len(), o)
		}
	}
	if got, err := readOrder(&whole); err != nil || got.Args[1] != "\xff" || got.Environment[0] != "A=\xfe" || got.Privileges.Groups[0] != 3 || !got.Foreground {
		t.Errorf("%+v, %v", got, err)
	}
}
