package nft_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/nft/sim"
)

// state is what stands.
func state(k *sim.Table) nft.State {
	s, _ := k.Read() // never fails
	return s
}

// used reports whether a rule has the name of a chain, a set or a counter.
func used(k *sim.Table, name string) bool {
	for _, c := range k.Chains {
		for _, r := range c.Rules {
			if slices.ContainsFunc(r, func(e nft.Expr) bool { return e.Name == name && e.Kind != nft.OutDevice && e.Kind != nft.OutKind }) {
				return true
			}
		}
	}
	return false
}

// drawFacts makes a host. Names and numbers are few, so that they meet.
func drawFacts(t *rapid.T) nft.Facts {
	f := nft.Facts{Cgroups: map[string]nft.Cgroup{}, Runs: map[fwmark.Mark][]nft.Cgroup{}, Unguarded: map[fwmark.Mark]bool{}}
	flip := func(what string) bool { return rapid.Bool().Draw(t, what) }
	prefixes := rapid.SliceOfN(rapid.SampledFrom([]netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("0.0.0.0/2"),
		netip.MustParsePrefix("192.0.0.0/2"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("c000::/2"),
	}), 0, 4)
	for i, name := range []string{"up1", "up2"} {
		u := uplink(name, nil)
		for family, a := range []string{fmt.Sprintf("192.0.2.%d", i+1), fmt.Sprintf("2001:db8::%d", i+1)} {
			if flip(name + " has an address") {
				u.Address[family] = netip.MustParseAddr(a)
				u.Gateways[family] = u.Address[family].Next()
			}
		}
		if flip(name + " is an uplink") {
			f.Uplinks = append(f.Uplinks, u)
			f.Devices = append(f.Devices, nft.Device{Name: name, Prefixes: prefixes.Draw(t, "behind "+name)})
		}
		if u.Address[0].IsValid() && flip(name+" has a lease") {
			f.Leased = true
		}
	}
	for _, p := range prefixes.Draw(t, "reach") {
		f.Reach[fwmark.FamilyOf(p.Addr())] = append(f.Reach[fwmark.FamilyOf(p.Addr())], p)
	}
	id := rapid.Uint64Range(1, 5)
	for _, path := range []string{"a", "b"} {
		if flip(path + " exists") {
			f.Cgroups[path] = nft.Cgroup{ID: id.Draw(t, "id"), Level: rapid.IntRange(1, 9).Draw(t, "level")}
		}
	}
	for _, m := range []fwmark.Mark{{Value: 0x1001, Mask: fwmark.FullMask}, {Value: 0x2000, Mask: 0xff00}} {
		if !flip("pin") {
			if flip("goes") {
				f.Going = append(f.Going, fwmark.Pin{Mark: m, Uplink: rapid.SampledFrom([]string{"", "up1", "up2"}).Draw(t, "its uplink"), Full: flip("full")})
			}
			continue
		}
		p := fwmark.Pin{Mark: m, Uplink: rapid.SampledFrom([]string{"", "up1", "up2"}).Draw(t, "its uplink")}
		if flip("has cgroups") {
			p.Cgroups = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b"}), 0, 2, rapid.ID).Draw(t, "cgroups")
		}
		if flip("runs") {
			f.Runs[m] = []nft.Cgroup{{ID: id.Draw(t, "id"), Level: 2}}
		}
		f.Unguarded[m] = flip("unguarded")
		f.Pins = append(f.Pins, p)
	}
	f.Broken, f.Unseen = flip("broken"), flip("unseen")
	return f
}

// damage does what others may have done to the table.
func damage(t *rapid.T, k *sim.Table) {
	for _, name := range slices.Sorted(maps.Keys(k.Chains)) {
		c := k.Chains[name]
		switch rapid.IntRange(0, 9).Draw(t, "damage to "+name) {
		case 0:
			c.Rules = nil
		case 1:
			if len(c.Rules) > 0 {
				c.Rules = c.Rules[1:]
			}
		case 2:
			c.Rules = append(slices.Clone(c.Rules), sim.Foreign(nft.Expr{Kind: nft.Accept}))
		case 3:
			if c.Base != (nft.Base{}) {
				c.Base.Priority++
			}
		}
		k.Chains[name] = c
		if !used(k, name) && rapid.IntRange(0, 9).Draw(t, "delete "+name) == 0 {
			delete(k.Chains, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(k.Sets)) {
		s := k.Sets[name]
		if s.Type == nft.Cgroups {
			s.Cgroups = slices.Sorted(slices.Values(rapid.SliceOfNDistinct(rapid.Uint64Range(1, 9), 0, 3, rapid.ID).Draw(t, "elements of "+name)))
		} else if rapid.Bool().Draw(t, "empty "+name) {
			s.Ranges = nil
		}
		k.Sets[name] = s
		if !used(k, name) && rapid.Bool().Draw(t, "delete "+name) {
			delete(k.Sets, name)
		}
		// In use too: so does a dump of nft(8) that was loaded again.
		if _, stands := k.Sets[name]; stands && rapid.IntRange(0, 9).Draw(t, "another type of "+name) == 0 {
			k.Sets[name] = nft.Set{Name: name}
		}
	}
	if k.Exists && rapid.Bool().Draw(t, "something more") {
		k.Chains["more"] = nft.Chain{Name: "more", Rules: []nft.Rule{sim.Foreign(nft.Expr{Kind: nft.Drop})}}
		k.Sets["more"] = nft.Set{Name: "more"}
	}
}

var asText = cmp.Comparer(func(a, b netipx.IPRange) bool { return a == b })

// way is how plans are made: all at once, by the parts of the table, or with
// conntrack turned on first where that is needed.
type way int

const (
	whole way = iota
	byParts
	conntrackFirst
)

// leads goes from what stands to what is wanted, in transactions that the kernel
// takes; then there is nothing to do. Elements of public sets stay as long as the
// sets are wanted.
func leads(t rapid.TB, k *sim.Table, f nft.Facts, how way) {
	t.Helper()
	f.Have = state(k)
	want := nft.Want(f)
	plans := []nft.Plan{nft.Diff(f.Have, want, nil)}
	switch {
	case how == byParts && !want.Empty():
		plans = nil
		for _, p := range nft.Parts {
			plans = append(plans, p.Diff(f.Have, want, nil))
		}
	case how == conntrackFirst && plans[0].ConntrackFirst:
		apply(t, k, nft.Diff(f.Have, want.WithoutMarks(), nil))
		plans[0] = nft.Diff(state(k), want, nil)
	}
	for _, p := range plans {
		apply(t, k, p)
	}
	if how == byParts { // the lock alone asks nothing of connections
		apply(t, k, nft.Diff(state(k), want, nil))
	}
	for _, s := range want.Sets {
		if before, stood := f.Have.Sets[s.Name]; s.Public && stood && before.Type == s.Type && !slices.Equal(k.Sets[s.Name].Cgroups, before.Cgroups) {
			t.Errorf("public set %s is %v, was %v", s.Name, k.Sets[s.Name].Cgroups, before.Cgroups)
		}
	}
	foretold := nft.After(f.Have, want)
	f.Have = state(k)
	if diff := cmp.Diff(foretold, f.Have, asText, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("After foretold (-), is (+):\n%s", diff)
	}
	if p := nft.Diff(f.Have, nft.Want(f), nil); !p.Empty() {
		t.Fatalf("still to be done:\n%s", strings.Join(p.Steps, "\n"))
	}
}

func apply(t rapid.TB, k *sim.Table, p nft.Plan) {
	t.Helper()
	if err := k.Apply(p); err != nil {
		t.Fatalf("%v\nplan:\n%s", err, strings.Join(p.Steps, "\n"))
	}
}

// TestPlansLead from whatever stands to whatever is wanted.
func TestPlansLead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := sim.New()
		for range 4 {
			f := drawFacts(t)
			damage(t, k)
			leads(t, k, f, way(rapid.IntRange(0, 2).Draw(t, "way")))
		}
	})
}

// TestPlansLeadFromDamage has what was once planned wrongly.
func TestPlansLeadFromDamage(t *testing.T) {
	const services = "pin 0x2000 - cgroups\n"
	for name, c := range map[string]struct {
		before, after string
		damage        func(*sim.Table)
		how           way
	}{
		"others' element in a public set whose chains others emptied and deleted": {
			before: services, after: services,
			damage: func(k *sim.Table) {
				setElements(k, "mark_0x2000", 1)
				setRules(k, "pin_0x2000", nil)
				delete(k.Chains, "services")
				setRules(k, "lock_0x2000", append(k.Chains["lock_0x2000"].Rules, sim.Foreign(nft.Expr{Kind: nft.Accept})))
			},
		},
		"services go and another mark comes, part by part": {
			before: "pin 0x1001 - cgroups\n", after: "pin 0x2000 -\n", how: byParts,
			damage: func(k *sim.Table) { setRules(k, "pin_0x1001", nil) },
		},
		"services that cannot be read, and whose chain others deleted": {
			before: "uplink up2 198.51.100.10\npin 0x2000 up2 cgroups\n", after: "pin 0x2000 -\nunseen\n",
			damage: func(k *sim.Table) {
				setElements(k, "paths_0x2000", 1)
				setRules(k, "pin_0x2000", nil)
				delete(k.Chains, "services")
			},
		},
		"services that cannot be read, without guards, and whose public set others deleted": {
			before: "pin 0x1001 - cgroups\n", after: "pin 0x1001 -\nunguarded 0x1001\nunseen\n",
			damage: func(k *sim.Table) {
				setElements(k, "paths_0x1001", 1)
				setRules(k, "services", nil)
				delete(k.Sets, "mark_0x1001")
			},
		},
		"sets of another type that a chain still looks up": {
			before: services, after: services,
			damage: func(k *sim.Table) {
				for _, name := range []string{"mark_0x2000", "paths_0x2000"} {
					k.Sets[name] = nft.Set{Name: name}
				}
				setRules(k, "pin_0x2000", nil)
				for _, name := range []string{"reach4", "reach6"} {
					delete(k.Sets, name)
				}
			},
		},
		"a mark of an uplink that is none, while the configuration has an error": {
			before: "", after: "pin 0x1001 up1\npin 0x2000 -\nbroken\n", damage: func(*sim.Table) {},
		},
		"a mark that goes, of an uplink that is none any more": {
			before: "", after: "going 0x1001 up1\nbroken\n", damage: func(*sim.Table) {},
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := sim.New()
			if c.before != "" {
				leads(t, k, readFacts(t, c.before), whole)
			}
			c.damage(k)
			leads(t, k, readFacts(t, c.after), c.how)
		})
	}
}

// TestStepsAreSaid: each change has a line.
func TestStepsAreSaid(t *testing.T) {
	f := readFacts(t, "uplink up2 198.51.100.10\npin 0x2005 up2 cgroups a b\ncgroup a 7 1\ncgroup b 9 1\nreach 2001:db8::/32")
	want := nft.Want(f)
	k := sim.New()
	must(t, k.Apply(nft.Diff(state(k), want, nil)))
	names := map[uint64]string{7: "a", 9: "b", 11: "c"}
	for what, c := range map[string]struct {
		change func()
		steps  string
	}{
		"nothing":        {func() {}, ""},
		"other elements": {func() { setElements(k, "paths_0x2005", 9, 10, 12) }, "+ nft element paths_0x2005 a\n- nft element paths_0x2005 10\n- nft element paths_0x2005 12"},
		"a public one":   {func() { setElements(k, "mark_0x2005", 9) }, ""},
		"a prefix": {func() {
			setElements(k, "reach6")
			s := k.Sets["reach6"]
			s.Ranges = k.Sets["reach4"].Ranges
			k.Sets["reach6"] = s
		}, "= nft set reach6 { + 2001:db8::/32 }"},
		"a rule lost":     {func() { c := k.Chains["sources"]; c.Rules = nil; k.Chains["sources"] = c }, "= nft chain sources (1 rules)"},
		"a chain moved":   {func() { c := k.Chains["arrivals"]; c.Base.Priority++; k.Chains["arrivals"] = c }, "= nft chain arrivals (7 rules)"},
		"a chain lost":    {func() { delete(k.Chains, "arrivals") }, "+ nft chain arrivals (7 rules)"},
		"a chain more":    {func() { k.Chains["x"] = nft.Chain{Name: "x"} }, "- nft chain x"},
		"a counter more":  {func() { k.Counters["x"] = 7 }, "- nft counter x"},
		"a counter lost":  {func() { delete(k.Counters, "lock_0x2005") }, "+ nft counter lock_0x2005"},
		"a set of others": {func() { k.Sets["x"] = nft.Set{Name: "x"} }, "- nft set x"},
	} {
		c.change()
		p := nft.Diff(state(k), want, names)
		if diff := cmp.Diff(c.steps, strings.Join(p.Steps, "\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		must(t, k.Apply(p))
		setElements(k, "mark_0x2005")
	}
	if p := nft.Diff(state(k), nft.Ruleset{}, nil); !p.DropTable || !cmp.Equal(p.Steps, []string{"- nft table inet wg_multihome"}) {
		t.Errorf("to nothing: %v", p.Steps)
	}
}

func setElements(k *sim.Table, name string, ids ...uint64) {
	s := k.Sets[name]
	s.Cgroups = ids
	k.Sets[name] = s
}

func setRules(k *sim.Table, name string, rules []nft.Rule) {
	c := k.Chains[name]
	c.Rules = rules
	k.Chains[name] = c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A cgroup that gets another mark is in the sets of both, until the way through the
// first one is done; one that is pinned no more leaves at once, and so does
// nothing of others'.
func TestCgroupsThatMoveAreInBothSets(t *testing.T) {
	cgroups := func(name string, ids ...uint64) nft.Set { return nft.Set{Name: name, Type: nft.Cgroups, Cgroups: ids} }
	have := nft.State{Sets: map[string]nft.Set{
		"paths_0x100": cgroups("paths_0x100", 1, 2, 3), "paths_0x200": cgroups("paths_0x200", 4), "mark_0x100": cgroups("mark_0x100", 5),
	}}
	want := nft.Ruleset{Sets: []nft.Set{cgroups("paths_0x200", 2, 5), cgroups("paths_0x300", 1, 4)}}
	both, moves := want.Keeping(have)
	if diff := cmp.Diff([]nft.Set{cgroups("paths_0x200", 2, 4, 5), cgroups("paths_0x300", 1, 4), cgroups("paths_0x100", 1, 2)}, both.Sets); diff != "" || !moves {
		t.Errorf("moves: %t, sets: -want +got:\n%s", moves, diff)
	}
	if diff := cmp.Diff([]nft.Set{cgroups("paths_0x200", 2, 5), cgroups("paths_0x300", 1, 4)}, want.Sets); diff != "" {
		t.Errorf("what is wanted has changed: -want +got:\n%s", diff)
	}
	have.Sets = map[string]nft.Set{"paths_0x200": cgroups("paths_0x200", 2, 3)}
	if _, moves := want.Keeping(have); moves {
		t.Error("a cgroup that is pinned no more moves")
	}
}
