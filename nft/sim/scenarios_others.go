package sim

import (
	"net/netip"
	"syscall"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
)

// ofOthers has what others do to the table.
func ofOthers() []Scenario {
	alien := Op{
		Nft: "add table " + our + "; add set " + our + " x { type inet_service; elements = { 22 }; }; add chain " + our + " y { type filter hook input priority 0; policy drop; }; " +
			"add rule " + our + " y tcp dport @x accept; add rule " + our + " y oifname up2 accept",
		Change: func(t *Table) {
			t.Exists = true
			t.Sets["x"] = nft.Set{Name: "x"}
			t.Chains["y"] = nft.Chain{Name: "y", Base: nft.Base{Type: "filter", Hook: "input!"}, Rules: []nft.Rule{
				Foreign(nft.Expr{Kind: nft.TCP}, nft.Expr{Kind: nft.ToSet, Name: "x"}), Foreign(nft.Expr{Kind: nft.OutDevice, Name: "up2"}),
			}}
		},
	}
	foreign := Op{
		Nft: "insert rule " + our + " base goto more",
		Change: func(t *Table) {
			c := t.Chains["base"]
			c.Rules = append([]nft.Rule{Foreign(goTo...)}, c.Rules...)
			t.Chains["base"] = c
		},
	}
	return []Scenario{
		{"others' things", []Op{alien}, "table\nset x not ours\nchain y filter input! 0 devices up2\n\t(not ours)\n\t(not ours)\n"},
		{"others' set, looked up", []Op{alien, does(nft.Plan{DropSets: []string{"x"}}, syscall.EBUSY)},
			"table\nset x not ours\nchain y filter input! 0 devices up2\n\t(not ours)\n\t(not ours)\n"},
		{"others' things deleted", []Op{alien, does(nft.Plan{Flush: []string{"y"}, DropChains: []string{"y"}, DropSets: []string{"x"}}, Done)}, "table\n"},
		{"others' rule in front", []Op{does(adds(base(accept), more()), Done), foreign},
			"table\nchain base filter postrouting 90\n\t(not ours)\n\taccept\nchain more\n"},
		{"others' rule keeps a chain", []Op{does(adds(base(accept), more()), Done), foreign, does(nft.Plan{DropChains: []string{"more"}}, syscall.EBUSY)},
			"table\nchain base filter postrouting 90\n\t(not ours)\n\taccept\nchain more\n"},
		{"the table deleted", []Op{does(adds(base(accept)), Done), {Nft: "delete table " + our, Change: func(t *Table) { *t = *New() }}}, ""},
	}
}

// ofRulesets has whole rulesets, one after the other.
func ofRulesets() []Scenario {
	mark := fwmark.Mark{Value: 0x2000, Mask: 0xff00}
	up1 := fwmark.Uplink{Name: "up1", Present: true, Up: true}
	up1.Address[fwmark.IPv4], up1.Gateways[fwmark.IPv4] = netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.0.2.1")
	up2 := fwmark.Uplink{Name: "up2"}
	facts := nft.Facts{
		Uplinks: []fwmark.Uplink{up1, up2},
		Pins:    []fwmark.Pin{{Mark: mark, Uplink: "up1", Cgroups: []string{"a"}}},
		Devices: []nft.Device{{Name: "up1", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}},
		Leased:  true,
		Cgroups: map[string]nft.Cgroup{"a": {ID: 7, Level: 2}},
	}
	want := func(change func(*nft.Facts)) Op {
		f := facts
		change(&f)
		r := nft.Want(f)
		return Op{Want: &r}
	}
	same := func(*nft.Facts) {}
	locked := func(f *nft.Facts) {
		f.Pins = []fwmark.Pin{{Mark: mark, Uplink: "up1"}}
		f.Leased = false
	}
	elements := func(ids ...uint64) Op {
		return does(nft.Plan{Elements: []nft.Update{{Set: nft.Set{Name: nft.MarkSet(mark), Type: nft.Cgroups}, Add: ids}}}, Done)
	}
	return []Scenario{
		foretold("locked", want(locked)),
		foretold("locked, and once more", want(locked), want(locked)),
		foretold("services come and go", want(same), want(locked)),
		foretold("all goes", want(same), elements(9), Op{Want: &nft.Ruleset{}}),
		foretold("others' elements stay, whatever comes and goes",
			want(locked), want(same), elements(9, 12), want(func(f *nft.Facts) { f.Uplinks = f.Uplinks[:1] }), want(func(f *nft.Facts) { f.Cgroups = nil }), want(same)),
	}
}

// foretold returns a scenario that ends as nft.After foretells.
func foretold(name string, ops ...Op) Scenario {
	s := Scenario{Name: name, Ops: ops}
	var have nft.State
	for _, o := range ops {
		if o.Want != nil {
			have = nft.After(have, *o.Want)
			continue
		}
		for _, u := range o.Plan.Elements {
			set := have.Sets[u.Set.Name]
			set.Cgroups = u.Add
			have.Sets[u.Set.Name] = set
		}
	}
	s.Text = s.text(have)
	return s
}
