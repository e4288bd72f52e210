package sim

import (
	"net/netip"
	"syscall"

	"go4.org/netipx"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
)

// our is the table's name, to nft(8).
const our = "inet " + nft.Table

var (
	post    = nft.Base{Type: "filter", Hook: "postrouting", Priority: 90}
	accept  = nft.Rule{{Kind: nft.Accept}}
	drop    = nft.Rule{{Kind: nft.Drop}}
	counted = nft.Rule{{Kind: nft.Count, Name: "n"}, {Kind: nft.Drop}}
	jump    = nft.Rule{{Kind: nft.Jump, Name: "more"}}
	goTo    = nft.Rule{{Kind: nft.Goto, Name: "more"}}
	by      = nft.Rule{{Kind: nft.OutDevice, Name: "up1"}, {Kind: nft.Accept}}
	inUnits = nft.Rule{{Kind: nft.InCgroup, Level: 2, Name: "units"}, {Kind: nft.Accept}}
	toNets  = nft.Rule{{Kind: nft.ToSet, Family: fwmark.IPv4, Name: "nets"}, {Kind: nft.Accept}}
	toNets6 = nft.Rule{{Kind: nft.ToSet, Family: fwmark.IPv6, Name: "nets"}, {Kind: nft.Accept}}
)

func units(ids ...uint64) nft.Set { return nft.Set{Name: "units", Type: nft.Cgroups, Cgroups: ids} }

func nets(f fwmark.Family, prefixes ...string) nft.Set {
	s := nft.Set{Name: "nets", Type: nft.Prefixes, Family: f}
	for _, p := range prefixes {
		s.Ranges = append(s.Ranges, netipx.RangeOfPrefix(netip.MustParsePrefix(p)))
	}
	return s
}

// does returns an operation: a plan, which takes a step to be one.
func does(p nft.Plan, errno syscall.Errno) Op {
	p.Steps = []string{"a step"}
	return Op{Plan: p, Errno: errno}
}

func base(rules ...nft.Rule) nft.Chain { return nft.Chain{Name: "base", Base: post, Rules: rules} }
func more(rules ...nft.Rule) nft.Chain { return nft.Chain{Name: "more", Rules: rules} }

// adds adds chains with their rules.
func adds(chains ...nft.Chain) nft.Plan { return nft.Plan{AddChains: chains, Fill: chains} }

// counting has a counter of others' count.
var counting = Op{
	Nft: "add table " + our + "; add counter " + our + " n { packets 7 bytes 9 }",
	Change: func(t *Table) {
		t.Exists = true
		t.Counters["n"] = 7
	},
}

// Scenarios returns all of them.
func Scenarios() []Scenario {
	var all []Scenario
	for _, list := range [][]Scenario{ofTheTable(), ofCounters(), ofSets(), ofChains(), ofRules(), ofOthers(), ofRulesets()} {
		all = append(all, list...)
	}
	return all
}

func ofTheTable() []Scenario {
	dormant := Op{Nft: "table " + our + " { flags dormant; }", Change: func(t *Table) { t.Dormant = true }}
	return []Scenario{
		{"nothing", nil, ""},
		{"an empty plan", []Op{{Plan: nft.Plan{AddCounters: []string{"n"}}}}, ""},
		{"no table to delete", []Op{does(nft.Plan{DropTable: true}, syscall.ENOENT)}, ""},
		{"a table deleted", []Op{does(adds(base(accept)), Done), does(nft.Plan{DropTable: true}, Done)}, ""},
		{"dormant", []Op{does(adds(base(accept)), Done), dormant}, "dormant table\nchain base filter postrouting 90\n\taccept\n"},
		{"woken", []Op{does(adds(base(accept)), Done), dormant, does(nft.Plan{Wake: true, Flush: []string{"base"}}, Done)},
			"table\nchain base filter postrouting 90\n"},
		{"woken, with another chain of a hook", []Op{does(adds(more()), Done), dormant, does(nft.Plan{Wake: true, AddChains: []nft.Chain{base()}}, Done)},
			"table\nchain base filter postrouting 90\nchain more\n"},
		{"not woken, with another chain of a hook", []Op{does(adds(more()), Done), dormant, does(nft.Plan{AddChains: []nft.Chain{base()}}, syscall.EINVAL)},
			"dormant table\nchain more\n"},
		{"woken, and the rest refused", []Op{does(adds(more()), Done), dormant, does(nft.Plan{Wake: true, Flush: []string{"base"}}, syscall.ENOENT)},
			"table\nchain more\n"},
	}
}

func ofCounters() []Scenario {
	return []Scenario{
		{"a counter", []Op{does(nft.Plan{AddCounters: []string{"n", "m"}}, Done)}, "table\ncounter m 0\ncounter n 0\n"},
		{"a counter that is there goes on", []Op{counting, does(nft.Plan{AddCounters: []string{"n"}}, Done)}, "table\ncounter n 7\n"},
		{"a counter that is used is not deleted, and nothing else is done",
			[]Op{counting, does(adds(base(counted)), Done), does(nft.Plan{DropCounters: []string{"n"}, AddCounters: []string{"m"}}, syscall.EBUSY)},
			"table\ncounter n 7\nchain base filter postrouting 90\n\tcounter name \"n\" drop\n"},
		{"a counter deleted with the rule that uses it",
			[]Op{counting, does(adds(base(counted)), Done), does(nft.Plan{Flush: []string{"base"}, DropCounters: []string{"n"}}, Done)},
			"table\nchain base filter postrouting 90\n"},
		{"a counter goes on while its rules are replaced",
			[]Op{counting, does(adds(base(counted)), Done), does(nft.Plan{Flush: []string{"base"}, Fill: []nft.Chain{base(by, counted)}}, Done)},
			"table\ncounter n 7\nchain base filter postrouting 90 devices up1\n\toifname \"up1\" accept\n\tcounter name \"n\" drop\n"},
		{"deleted and added, a counter begins anew", []Op{counting, does(nft.Plan{DropCounters: []string{"n"}, AddCounters: []string{"n"}}, Done)}, "table\ncounter n 0\n"},
		{"no counter to delete", []Op{does(nft.Plan{DropCounters: []string{"n"}}, syscall.ENOENT)}, ""},
	}
}

func ofSets() []Scenario {
	update := func(add, remove []uint64) nft.Plan {
		return nft.Plan{Elements: []nft.Update{{Set: units(), Add: add, Delete: remove}}}
	}
	out := nft.Chain{Name: "out", Base: nft.Base{Type: "filter", Hook: "output"}, Rules: []nft.Rule{inUnits}}
	set := func(s nft.Set) nft.Plan { return nft.Plan{AddSets: []nft.Set{s}} }
	return []Scenario{
		{"sets", []Op{does(set(units(9, 7)), Done), does(set(nets(fwmark.IPv4, "10.0.0.0/8", "128.0.0.0/1")), Done)},
			"table\nset nets prefixes 4 10.0.0.0-10.255.255.255 128.0.0.0-255.255.255.255\nset units cgroups 7 9\n"},
		{"a set that is there keeps its elements", []Op{does(set(units(7)), Done), does(set(units(9)), Done)}, "table\nset units cgroups 7 9\n"},
		{"a set of another type", []Op{does(set(nets(fwmark.IPv4)), Done), does(set(nets(fwmark.IPv6)), syscall.EEXIST)}, "table\nset nets prefixes 4\n"},
		{"a set of another type in its place", []Op{does(set(nets(fwmark.IPv4, "10.0.0.0/8")), Done),
			does(nft.Plan{DropSets: []string{"nets"}, AddSets: []nft.Set{nets(fwmark.IPv6, "2001:db8::/32")}}, Done)},
			"table\nset nets prefixes 6 2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff\n"},
		{"no set to delete", []Op{does(nft.Plan{DropSets: []string{"units"}}, syscall.ENOENT)}, ""},
		{"a set that is looked up", []Op{does(nft.Plan{AddSets: []nft.Set{units()}, AddChains: []nft.Chain{out}, Fill: []nft.Chain{out}}, Done),
			does(nft.Plan{DropSets: []string{"units"}}, syscall.EBUSY)},
			"table\nset units cgroups\nchain out filter output 0\n\tsocket cgroupv2 level 2 @units accept\n"},
		{"a set deleted with the chain that looks it up", []Op{
			does(nft.Plan{AddSets: []nft.Set{units(7)}, AddChains: []nft.Chain{out}, Fill: []nft.Chain{out}}, Done),
			does(nft.Plan{Flush: []string{"out"}, DropChains: []string{"out"}, DropSets: []string{"units"}}, Done)}, "table\n"},
		{"a set filled anew", []Op{does(set(nets(fwmark.IPv4, "10.0.0.0/8")), Done), does(nft.Plan{Refill: []nft.Set{nets(fwmark.IPv4, "10.0.0.0/9", "192.0.2.0/24")}}, Done)},
			"table\nset nets prefixes 4 10.0.0.0-10.127.255.255 192.0.2.0-192.0.2.255\n"},
		{"no set to fill", []Op{does(nft.Plan{Refill: []nft.Set{nets(fwmark.IPv4, "10.0.0.0/8")}}, syscall.ENOENT)}, ""},
		{"elements come and go", []Op{does(set(units(7, 9)), Done), does(update([]uint64{7, 8}, []uint64{9}), Done)}, "table\nset units cgroups 7 8\n"},
		{"no element to delete, and none is added", []Op{does(set(units(7)), Done), does(update([]uint64{8}, []uint64{9}), syscall.ENOENT)}, "table\nset units cgroups 7\n"},
		{"no set for an element", []Op{does(update([]uint64{8}, nil), syscall.ENOENT)}, ""},
	}
}

func ofChains() []Scenario {
	other := base(drop)
	other.Base.Priority = 91
	bare, hooked := more(), more()
	bare.Name, hooked.Base = "base", post
	return []Scenario{
		{"chains", []Op{does(adds(base(by, jump), more(accept)), Done)},
			"table\nchain base filter postrouting 90 devices up1\n\toifname \"up1\" accept\n\tjump more\nchain more\n\taccept\n"},
		{"a chain that is there keeps its rules", []Op{does(adds(base(accept)), Done), does(adds(base(drop)), Done)},
			"table\nchain base filter postrouting 90\n\taccept\n\tdrop\n"},
		{"elsewhere", []Op{does(adds(base(accept)), Done), does(adds(other), syscall.EOPNOTSUPP)}, "table\nchain base filter postrouting 90\n\taccept\n"},
		{"elsewhere, deleted first", []Op{does(adds(base(accept)), Done),
			does(nft.Plan{Flush: []string{"base"}, DropChains: []string{"base"}, AddChains: []nft.Chain{other}, Fill: []nft.Chain{other}}, Done)},
			"table\nchain base filter postrouting 91\n\tdrop\n"},
		{"a chain of no hook gets one", []Op{does(adds(more()), Done), does(adds(hooked), syscall.EOPNOTSUPP)}, "table\nchain more\n"},
		{"a chain of a hook is added as one of none", []Op{does(adds(base(accept)), Done), does(adds(bare), Done)}, "table\nchain base filter postrouting 90\n\taccept\n"},
		{"no chain to empty", []Op{does(nft.Plan{Flush: []string{"base"}}, syscall.ENOENT)}, ""},
		{"no chain to delete", []Op{does(nft.Plan{DropChains: []string{"base"}}, syscall.ENOENT)}, ""},
		{"a chain goes with its rules", []Op{does(adds(base(accept)), Done), does(nft.Plan{DropChains: []string{"base"}}, Done)}, "table\n"},
		{"a chain that another one jumps to", []Op{does(adds(base(jump), more()), Done), does(nft.Plan{DropChains: []string{"more"}}, syscall.EBUSY)},
			"table\nchain base filter postrouting 90\n\tjump more\nchain more\n"},
		{"and once that is emptied", []Op{does(adds(base(goTo), more(accept)), Done), does(nft.Plan{Flush: []string{"base"}, DropChains: []string{"more"}}, Done)},
			"table\nchain base filter postrouting 90\n"},
		{"in the wrong order", []Op{does(adds(base(goTo), more(accept)), Done), does(nft.Plan{DropChains: []string{"more", "base"}}, syscall.EBUSY)},
			"table\nchain base filter postrouting 90\n\tgoto more\nchain more\n\taccept\n"},
	}
}

func ofRules() []Scenario {
	fill := func(p nft.Plan, rules ...nft.Rule) nft.Plan {
		p.AddChains, p.Fill = append(p.AddChains, base()), append(p.Fill, base(rules...))
		return p
	}
	return []Scenario{
		{"no chain to fill", []Op{does(nft.Plan{Fill: []nft.Chain{base(accept)}}, syscall.ENOENT)}, ""},
		{"no chain to go to", []Op{does(fill(nft.Plan{}, goTo), syscall.ENOENT)}, ""},
		{"one of a hook to go to", []Op{does(adds(nft.Chain{Name: "more", Base: post}), Done), does(fill(nft.Plan{}, goTo), syscall.EOPNOTSUPP)},
			"table\nchain more filter postrouting 90\n"},
		{"no counter", []Op{does(fill(nft.Plan{}, counted), syscall.ENOENT)}, ""},
		{"no set", []Op{does(fill(nft.Plan{}, inUnits), syscall.ENOENT)}, ""},
		{"a set of wider keys", []Op{does(fill(nft.Plan{AddSets: []nft.Set{nets(fwmark.IPv6)}}, toNets), syscall.ENODATA)}, ""},
		{"a set of narrower keys", []Op{does(fill(nft.Plan{AddSets: []nft.Set{nets(fwmark.IPv4)}}, toNets6), Done)},
			"table\nset nets prefixes 4\nchain base filter postrouting 90\n\tip6 daddr @nets accept\n"},
		{"rules come behind those that stand", []Op{does(fill(nft.Plan{}, accept), Done), does(nft.Plan{Fill: []nft.Chain{base(drop, by)}}, Done)},
			"table\nchain base filter postrouting 90 devices up1\n\taccept\n\tdrop\n\toifname \"up1\" accept\n"},
	}
}
