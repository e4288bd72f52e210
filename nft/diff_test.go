package nft_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
)

// fake is the table as the kernel has it, and refuses what the kernel would.
type fake struct {
	counters map[string]bool
	sets     map[string]nft.Set
	chains   map[string]nft.Chain
	exists   bool
}

func newFake() *fake {
	return &fake{counters: map[string]bool{}, sets: map[string]nft.Set{}, chains: map[string]nft.Chain{}}
}

func (k *fake) state() nft.State {
	s := nft.State{Exists: k.exists, Counters: map[string]uint64{}, Sets: map[string]nft.Set{}, Chains: map[string]nft.ChainState{}}
	for name := range k.counters {
		s.Counters[name] = 7
	}
	for name, set := range k.sets {
		set.Public = false
		s.Sets[name] = set
	}
	for name, c := range k.chains {
		now := nft.ChainState{Base: c.Base, Fingerprints: []string{}}
		for _, r := range c.Rules {
			now.Fingerprints = append(now.Fingerprints, r.Fingerprint())
		}
		s.Chains[name] = now
	}
	return s
}

// used reports whether a rule has the name of a chain, a set or a counter.
func (k *fake) used(name string) bool {
	for _, c := range k.chains {
		for _, r := range c.Rules {
			if slices.ContainsFunc(r, func(e nft.Expr) bool { return e.Name == name && e.Kind != nft.OutDevice && e.Kind != nft.OutKind }) {
				return true
			}
		}
	}
	return false
}

// known reports whether all that a rule names is there.
func (k *fake) known(r nft.Rule) bool {
	for _, e := range r {
		ok := true
		switch e.Kind {
		case nft.Goto, nft.Jump:
			var c nft.Chain
			c, ok = k.chains[e.Name]
			ok = ok && c.Base == nft.Base{}
		case nft.ToSet, nft.InCgroup:
			var s nft.Set
			s, ok = k.sets[e.Name]
			ok = ok && (s.Type == nft.Cgroups) == (e.Kind == nft.InCgroup) && s.Family == e.Family
		case nft.Count:
			ok = k.counters[e.Name]
		}
		if !ok {
			return false
		}
	}
	return true
}

// apply does what nft/kernel does, in its order.
func (k *fake) apply(p nft.Plan) error {
	if p.DropTable {
		*k = *newFake()
		return nil
	}
	k.exists = k.exists || !p.Empty()
	for _, name := range p.Flush {
		c, ok := k.chains[name]
		if !ok {
			return fmt.Errorf("flush chain %s: not there", name)
		}
		c.Rules = nil
		k.chains[name] = c
	}
	for _, name := range p.DropChains {
		if c, ok := k.chains[name]; !ok || len(c.Rules) > 0 || k.used(name) {
			return fmt.Errorf("delete chain %s: not there, or in use", name)
		}
		delete(k.chains, name)
	}
	for _, name := range append(slices.Clone(p.DropSets), p.DropCounters...) {
		_, isSet := k.sets[name]
		if !isSet && !k.counters[name] || k.used(name) {
			return fmt.Errorf("delete %s: not there, or in use", name)
		}
		delete(k.sets, name)
		delete(k.counters, name)
	}
	for _, name := range p.AddCounters {
		k.counters[name] = true
	}
	for _, s := range p.AddSets {
		if _, ok := k.sets[s.Name]; ok {
			return fmt.Errorf("add set %s: it is there", s.Name)
		}
		k.sets[s.Name] = s
	}
	return k.applyRest(p)
}

func (k *fake) applyRest(p nft.Plan) error {
	for _, s := range p.Refill {
		if now, ok := k.sets[s.Name]; !ok || now.Type != s.Type || now.Family != s.Family {
			return fmt.Errorf("fill set %s: not there, or of another type", s.Name)
		}
		k.sets[s.Name] = s
	}
	for _, u := range p.Elements {
		now, ok := k.sets[u.Set.Name]
		for _, id := range u.Delete {
			at := slices.Index(now.Cgroups, id)
			if !ok || at < 0 {
				return fmt.Errorf("delete element %d of %s: not there", id, u.Set.Name)
			}
			now.Cgroups = slices.Delete(slices.Clone(now.Cgroups), at, at+1)
		}
		now.Cgroups = append(slices.Clone(now.Cgroups), u.Add...)
		slices.Sort(now.Cgroups)
		k.sets[u.Set.Name] = now
	}
	for _, c := range p.AddChains {
		if _, ok := k.chains[c.Name]; ok {
			return fmt.Errorf("add chain %s: it is there", c.Name)
		}
		k.chains[c.Name] = nft.Chain{Name: c.Name, Base: c.Base}
	}
	for _, c := range p.Fill {
		now, ok := k.chains[c.Name]
		if !ok || len(now.Rules) > 0 {
			return fmt.Errorf("fill chain %s: not there, or not empty", c.Name)
		}
		for _, r := range c.Rules {
			if !k.known(r) {
				return fmt.Errorf("chain %s: rule %q names what is not there", c.Name, r)
			}
		}
		now.Rules = c.Rules
		k.chains[c.Name] = now
	}
	return nil
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
			f.Leases = append(f.Leases, nft.Lease{Uplink: name, Address: u.Address[0]})
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
func (k *fake) damage(t *rapid.T) {
	for _, name := range sorted(k.chains) {
		c := k.chains[name]
		switch rapid.IntRange(0, 9).Draw(t, "damage to "+name) {
		case 0:
			c.Rules = nil
		case 1:
			if len(c.Rules) > 0 {
				c.Rules = c.Rules[1:]
			}
		case 2:
			c.Rules = append(slices.Clone(c.Rules), nft.Rule{{Kind: nft.Accept}})
		case 3:
			if c.Base != (nft.Base{}) {
				c.Base.Priority++
			}
		}
		k.chains[name] = c
		if !k.used(name) && rapid.IntRange(0, 9).Draw(t, "delete "+name) == 0 {
			delete(k.chains, name)
		}
	}
	for _, name := range sorted(k.sets) {
		s := k.sets[name]
		if s.Type == nft.Cgroups {
			s.Cgroups = slices.Sorted(slices.Values(rapid.SliceOfNDistinct(rapid.Uint64Range(1, 9), 0, 3, rapid.ID).Draw(t, "elements of "+name)))
		} else if rapid.Bool().Draw(t, "empty "+name) {
			s.Ranges = nil
		}
		k.sets[name] = s
		if !k.used(name) && rapid.Bool().Draw(t, "delete "+name) {
			delete(k.sets, name)
		}
		// In use too: so does a dump of nft(8) that was loaded again.
		if _, stands := k.sets[name]; stands && rapid.IntRange(0, 9).Draw(t, "another type of "+name) == 0 {
			k.sets[name] = nft.Set{Name: name}
		}
	}
	if k.exists && rapid.Bool().Draw(t, "something more") {
		k.chains["more"] = nft.Chain{Name: "more", Rules: []nft.Rule{{{Kind: nft.Drop}}}}
		k.sets["more"] = nft.Set{Name: "more"}
	}
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// TestPlansLead: from whatever stands to what is wanted, in one transaction
// that the kernel takes, or part by part; and then there is nothing to do.
// Elements of public sets stay as long as the sets are wanted.
func TestPlansLead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := newFake()
		for range 4 {
			f := drawFacts(t)
			k.damage(t)
			f.Have = k.state()
			want := nft.Want(f)
			plans := []nft.Plan{nft.Diff(f.Have, want, nil)}
			if !want.Empty() && rapid.Bool().Draw(t, "part by part") {
				plans = nil
				for _, p := range nft.Parts {
					plans = append(plans, p.Diff(f.Have, want, nil))
				}
			}
			if plans[0].First && len(plans) == 1 && rapid.Bool().Draw(t, "conntrack first") {
				if err := k.apply(nft.Diff(f.Have, want.Warm(), nil)); err != nil {
					t.Fatal(err)
				}
				plans[0] = nft.Diff(k.state(), want, nil)
			}
			for _, p := range plans {
				if err := k.apply(p); err != nil {
					t.Fatalf("%v\nplan:\n%s", err, strings.Join(p.Steps, "\n"))
				}
			}
			for _, s := range want.Sets {
				if before, stood := f.Have.Sets[s.Name]; s.Public && stood && before.Type == s.Type && !slices.Equal(k.sets[s.Name].Cgroups, before.Cgroups) {
					t.Errorf("public set %s is %v, was %v", s.Name, k.sets[s.Name].Cgroups, before.Cgroups)
				}
			}
			f.Have = k.state()
			if p := nft.Diff(f.Have, nft.Want(f), nil); !p.Empty() {
				t.Fatalf("still to be done:\n%s", strings.Join(p.Steps, "\n"))
			}
		}
	})
}

// TestStepsAreSaid: each change has a line.
func TestStepsAreSaid(t *testing.T) {
	f := readFacts(t, "uplink up2 198.51.100.10\npin 0x2005 up2 cgroups a b\ncgroup a 7 1\ncgroup b 9 1\nreach 2001:db8::/32")
	want := nft.Want(f)
	k := newFake()
	must(t, k.apply(nft.Diff(k.state(), want, nil)))
	names := map[uint64]string{7: "a", 9: "b", 11: "c"}
	for what, c := range map[string]struct {
		change func()
		steps  string
	}{
		"nothing":        {func() {}, ""},
		"other elements": {func() { k.set("paths_0x2005", 9, 10, 12) }, "+ nft element paths_0x2005 a\n- nft element paths_0x2005 10\n- nft element paths_0x2005 12"},
		"a public one":   {func() { k.set("mark_0x2005", 9) }, ""},
		"a prefix": {func() {
			k.set("reach6")
			s := k.sets["reach6"]
			s.Ranges = k.sets["reach4"].Ranges
			k.sets["reach6"] = s
		}, "= nft set reach6 { + 2001:db8::/32 }"},
		"a rule lost":     {func() { c := k.chains["sources"]; c.Rules = nil; k.chains["sources"] = c }, "= nft chain sources (1 rules)"},
		"a chain moved":   {func() { c := k.chains["answers"]; c.Base.Priority++; k.chains["answers"] = c }, "= nft chain answers (1 rules)"},
		"a chain lost":    {func() { delete(k.chains, "answers") }, "+ nft chain answers (1 rules)"},
		"a chain more":    {func() { k.chains["x"] = nft.Chain{Name: "x"} }, "- nft chain x"},
		"a counter more":  {func() { k.counters["x"] = true }, "- nft counter x"},
		"a counter lost":  {func() { delete(k.counters, "lock_0x2005") }, "+ nft counter lock_0x2005"},
		"a set of others": {func() { k.sets["x"] = nft.Set{Name: "x"} }, "- nft set x"},
	} {
		c.change()
		p := nft.Diff(k.state(), want, names)
		if diff := cmp.Diff(c.steps, strings.Join(p.Steps, "\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		must(t, k.apply(p))
		k.set("mark_0x2005")
	}
	if p := nft.Diff(k.state(), nft.Ruleset{}, nil); !p.DropTable || !cmp.Equal(p.Steps, []string{"- nft table inet wg_multihome"}) {
		t.Errorf("to nothing: %v", p.Steps)
	}
}

func (k *fake) set(name string, ids ...uint64) {
	s := k.sets[name]
	s.Cgroups = ids
	k.sets[name] = s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
