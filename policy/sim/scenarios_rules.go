package sim

import (
	"net/netip"
	"slices"
	"syscall"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// Scenarios are sequences of operations on rules and routes, with what the kernel
// answers.
func Scenarios() []Scenario {
	return slices.Concat(ruleAddScenarios(), ruleDeleteScenarios(), routeScenarios(), walkScenarios(), routeTypeScenarios(), groupScenarios())
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

func addrOrNone(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return mustAddr(s)
}

func ruleAddScenarios() []Scenario {
	guard := rule("4 100 fwmark 0x2005 unreachable", 77)
	inverted := guard
	inverted.Invert = true
	scriptGuard := rule("4 100 fwmark 0x2005 unreachable", 0)
	bootGuard := rule("4 100 fwmark 0x2005 unreachable", 3)
	other := rule("4 100 fwmark 0x2006 unreachable", 77)
	front := rule("4 99 from 192.0.2.2 lookup 3221225986", 77)
	masked := rule("4 100 fwmark 0x2005/0xffff unreachable", 77)
	short, long := rule("4 100 fwmark 0x2005 lookup main suppress_prefixlength 0", 77), rule("4 100 fwmark 0x2005 lookup main suppress_prefixlength 1", 77)
	sourced := rule("4 100 from 192.0.2.2 fwmark 0x2005 lookup 16909060", 77)
	six := rule("6 100 fwmark 0x2005 unreachable", 77)
	return []Scenario{
		{Name: "an identical rule exists", Ops: []Op{addRule(guard, Done), addRule(guard, syscall.EEXIST)}, Rules: []policy.Rule{guard}},
		{Name: "protocol makes another rule", Ops: []Op{addRule(guard, Done), addRule(scriptGuard, Done), addRule(bootGuard, Done), addRule(scriptGuard, syscall.EEXIST)},
			Rules: []policy.Rule{guard, scriptGuard, bootGuard}},
		{Name: "not makes no other rule", Ops: []Op{addRule(inverted, Done), addRule(guard, syscall.EEXIST)}, Rules: []policy.Rule{inverted}},
		{Name: "a mask makes another rule", Ops: []Op{addRule(guard, Done), addRule(masked, Done)}, Rules: []policy.Rule{guard, masked}},
		{Name: "a suppressed length makes another rule", Ops: []Op{addRule(short, Done), addRule(long, Done)}, Rules: []policy.Rule{short, long}},
		{Name: "new rules go behind those of their priority",
			Ops:   []Op{addRule(guard, Done), addRule(other, Done), addRule(front, Done), addRule(masked, Done)},
			Rules: []policy.Rule{front, guard, other, masked}},
		{Name: "without a source any source is the same", Ops: []Op{
			addRule(sourced, Done), addRule(rule("4 100 fwmark 0x2005 lookup 16909060", 77), syscall.EEXIST)},
			Rules: []policy.Rule{sourced}},
		{Name: "with a source it is another rule", Ops: []Op{
			addRule(rule("4 100 fwmark 0x2005 lookup 16909060", 77), Done), addRule(sourced, Done)},
			Rules: []policy.Rule{rule("4 100 fwmark 0x2005 lookup 16909060", 77), sourced}},
		{Name: "families are apart", Ops: []Op{addRule(guard, Done), addRule(six, Done), deleteRule(guard, Done)}, Rules: []policy.Rule{six}},
		{Name: "a goto leads forward only", Ops: []Op{
			addRule(rule("4 100 goto 200", 0), Done), addRule(rule("4 100 goto 100", 0), syscall.EINVAL), addRule(rule("4 100 goto 99", 0), syscall.EINVAL)},
			Rules: []policy.Rule{rule("4 100 goto 200", 0)}},
	}
}

func ruleDeleteScenarios() []Scenario {
	suppress := rule("4 100 fwmark 0x2005 lookup main suppress_prefixlength 0", 77)
	lookup := rule("4 100 fwmark 0x2005 lookup 16909060", 77)
	guard := rule("4 100 fwmark 0x2005 unreachable", 77)
	pair := rule("4 100 from 192.0.2.2 lookup 16909060", 77)
	block := []Op{addRule(suppress, Done), addRule(lookup, Done), addRule(guard, Done), addRule(pair, Done)}
	after := func(ops ...Op) []Op { return append(slices.Clone(block), ops...) }
	bare := func(change func(*policy.Rule)) policy.Rule {
		r := policy.Rule{Family: fwmark.IPv4, Priority: 100}
		change(&r)
		return r
	}
	prefix := netip.MustParsePrefix("192.0.2.2/32")
	only := func(r policy.Rule) []policy.Rule { return []policy.Rule{r} }
	stays := []policy.Rule{lookup, guard, pair}
	twin, scriptTwin := guard, rule("4 100 fwmark 0x2005 unreachable", 0)
	masked := rule("4 100 fwmark 0x1/0xff unreachable", 0)
	plain := rule("4 100 fwmark 0x1 unreachable", 0)
	inverted := rule("4 100 not fwmark 0x1 unreachable", 0)
	plainMain := rule("4 100 fwmark 0x2005 lookup main", 77)
	return []Scenario{
		{Name: "every field given", Ops: after(deleteRule(lookup, Done)), Rules: []policy.Rule{suppress, guard, pair}},
		{Name: "gone already", Ops: after(deleteRule(lookup, Done), deleteRule(lookup, syscall.ENOENT)), Rules: []policy.Rule{suppress, guard, pair}},
		{Name: "a priority alone", Ops: after(deleteRule(bare(func(*policy.Rule) {}), Done)), Rules: stays},
		{Name: "another priority", Ops: after(deleteRule(bare(func(r *policy.Rule) { r.Priority = 101 }), syscall.ENOENT)), Rules: []policy.Rule{suppress, lookup, guard, pair}},
		{Name: "a mark alone", Ops: after(deleteRule(bare(func(r *policy.Rule) { r.Mark = guard.Mark }), Done)), Rules: stays},
		{Name: "another mark", Ops: after(deleteRule(bare(func(r *policy.Rule) { r.Mark = fwmark.Mark{Value: 1, Mask: fwmark.FullMask} }), syscall.ENOENT)),
			Rules: []policy.Rule{suppress, lookup, guard, pair}},
		{Name: "an action alone", Ops: after(deleteRule(bare(func(r *policy.Rule) { r.Action = policy.Unreachable }), Done)), Rules: []policy.Rule{suppress, lookup, pair}},
		{Name: "a table alone", Ops: after(deleteRule(bare(func(r *policy.Rule) { r.Table = 16909060 }), Done)), Rules: []policy.Rule{suppress, guard, pair}},
		{Name: "a source alone", Ops: after(deleteRule(bare(func(r *policy.Rule) { r.From = prefix }), Done)), Rules: []policy.Rule{suppress, lookup, guard}},
		{Name: "a protocol alone", Ops: append([]Op{addRule(scriptTwin, Done)}, append(slices.Clone(block), deleteRule(bare(func(r *policy.Rule) { r.Protocol = 77 }), Done))...),
			Rules: []policy.Rule{scriptTwin, lookup, guard, pair}},
		{Name: "a protocol of 0 deletes the first twin, ours", Ops: []Op{addRule(twin, Done), addRule(scriptTwin, Done), deleteRule(scriptTwin, Done)}, Rules: only(scriptTwin)},
		{Name: "a protocol of 0 deletes the first twin, the script's", Ops: []Op{addRule(scriptTwin, Done), addRule(twin, Done), deleteRule(scriptTwin, Done)}, Rules: only(twin)},
		{Name: "a protocol deletes its twin", Ops: []Op{addRule(scriptTwin, Done), addRule(twin, Done), deleteRule(twin, Done)}, Rules: only(scriptTwin)},
		{Name: "a mark of 0 under a mask", Ops: []Op{addRule(masked, Done), deleteRule(bare(func(r *policy.Rule) { r.Mark.Mask = 0xff }), Done)}},
		{Name: "a mark of 0 under another mask", Ops: []Op{addRule(masked, Done), deleteRule(bare(func(r *policy.Rule) { r.Mark.Mask = 0xffff }), syscall.ENOENT)}, Rules: only(masked)},
		{Name: "a mark under the full mask is not one under a mask", Ops: []Op{addRule(masked, Done), deleteRule(plain, syscall.ENOENT)}, Rules: only(masked)},
		{Name: "not is never looked at", Ops: []Op{addRule(inverted, Done), deleteRule(plain, Done)}},
		{Name: "a look-up that suppresses nothing deletes one that does", Ops: []Op{addRule(suppress, Done), deleteRule(plainMain, Done)}},
		{Name: "a look-up that suppresses deletes none that does not", Ops: []Op{addRule(plainMain, Done), deleteRule(suppress, syscall.ENOENT)}, Rules: only(plainMain)},
		{Name: "another suppressed length", Ops: []Op{addRule(suppress, Done), deleteRule(rule("4 100 fwmark 0x2005 lookup main suppress_prefixlength 1", 77), syscall.ENOENT)}, Rules: only(suppress)},
		{Name: "without a source the first of any source goes", Ops: []Op{addRule(pair, Done), deleteRule(rule("4 100 lookup 16909060", 77), Done)}},
		{Name: "a goto's target is never looked at", Ops: []Op{addRule(rule("4 100 goto 200", 0), Done), deleteRule(rule("4 100 goto 300", 0), Done)}},
		{Name: "tables above 2³¹", Ops: []Op{
			addRule(rule("4 100 from 192.0.2.2 lookup 3221225986", 77), Done), addRule(rule("6 100 from 2001:db8:1::2 lookup 4026531840", 77), Done),
			deleteRule(rule("4 100 from 192.0.2.2 lookup 3221225985", 77), syscall.ENOENT), deleteRule(rule("4 100 from 192.0.2.2 lookup 3221225986", 77), Done)},
			Rules: only(rule("6 100 from 2001:db8:1::2 lookup 4026531840", 77))},
	}
}
