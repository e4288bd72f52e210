package sim

import (
	"net/netip"
	"slices"
	"syscall"

	"wg-multihome/policy"
)

// groupScenarios are about link groups, and rules that pass over them.
func groupScenarios() []Scenario {
	old := rule("4 100 fwmark 0x2005 lookup main suppress_prefixlength 0", 77)
	grouped := rule("4 100 fwmark 0x2005 lookup main suppress_prefixlength 0 suppress_ifgroup 77", 77)
	other := rule("4 100 fwmark 0x2005 lookup main suppress_prefixlength 0 suppress_ifgroup 5", 77)
	alone := rule("4 100 fwmark 0x2005 lookup main suppress_ifgroup 77", 77)
	only := func(r ...policy.Rule) []policy.Rule { return r }
	groups := []Op{setGroup("dm1", 77, Done), setGroup("absent", 77, syscall.ENODEV)}
	var quarters []policy.Route
	for _, text := range []string{"0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/2", "192.0.0.0/2"} {
		quarters = append(quarters, route("4 main "+text+" dev dm1", 3))
	}
	block := []policy.Rule{grouped, rule("4 101 fwmark 0x2005 unreachable", 77)}
	block6 := []policy.Rule{
		rule("6 100 fwmark 0x2005 lookup main suppress_prefixlength 0 suppress_ifgroup 77", 77), rule("6 101 fwmark 0x2005 unreachable", 77),
	}
	lan := route("4 main 203.0.113.0/24 dev dm0", 3)
	world6, lan6 := route("6 main 2000::/3 via fe80::1 dev dm1", 3), route("6 main 2001:db8:7::/48 dev dm0", 3)
	marked := func(dst string) policy.Packet { return policy.Packet{Mark: 0x2005, Dst: mustAddr(dst)} }
	hops := []policy.Route{route("4 main 9.0.0.0/8 dev dm1", 3), route("4 main 9.9.0.0/16 dev dm0", 3)}
	return []Scenario{
		{Name: "a suppressed group makes another rule", Ops: []Op{addRule(old, Done), addRule(grouped, Done), addRule(other, Done), addRule(grouped, syscall.EEXIST)},
			Rules: only(old, grouped, other)},
		{Name: "delete by group", Ops: []Op{addRule(old, Done), addRule(other, Done), addRule(grouped, Done), deleteRule(grouped, Done), deleteRule(grouped, syscall.ENOENT)},
			Rules: only(old, other)},
		{Name: "without a group the first one goes, the old one", Ops: []Op{addRule(old, Done), addRule(grouped, Done), deleteRule(old, Done)}, Rules: only(grouped)},
		{Name: "without a group the first one goes, of whatever group", Ops: []Op{addRule(grouped, Done), addRule(old, Done), deleteRule(old, Done)}, Rules: only(old)},
		{Name: "by group alone any length goes", Ops: []Op{addRule(grouped, Done), deleteRule(alone, Done)}},
		withOps(walk("a group is passed over whatever the length", block, append(quarters, lan, route("4 main 9.9.9.9 dev dm1", 3)),
			RouteGet{Packet: marked("9.9.9.9"), Errno: syscall.ENETUNREACH}, RouteGet{Packet: marked("9.9.9.8"), Errno: syscall.ENETUNREACH},
			RouteGet{Packet: marked("192.88.99.1"), Errno: syscall.ENETUNREACH}, RouteGet{Packet: marked("203.0.113.5"), Device: "dm0"},
			RouteGet{Packet: policy.Packet{Dst: mustAddr("9.9.9.9")}, Device: "dm1"}), groups...),
		withOps(walk("a group of another number", block, quarters, RouteGet{Packet: marked("9.9.9.9"), Device: "dm1"}), setGroup("dm1", 78, Done)),
		withOps(walk("a group that was set back", block, quarters, RouteGet{Packet: marked("9.9.9.9"), Device: "dm1"}), append(groups, setGroup("dm1", 0, Done))...),
		withOps(walk("group 0 is every device's", []policy.Rule{rule("4 100 lookup main suppress_ifgroup 0", 77), rule("4 101 unreachable", 77)}, append(quarters, lan),
			RouteGet{Packet: policy.Packet{Dst: mustAddr("203.0.113.5")}, Errno: syscall.ENETUNREACH}, RouteGet{Packet: policy.Packet{Dst: mustAddr("9.9.9.9")}, Device: "dm1"}), groups...),
		withOps(walk("a longer route in a group hides a shorter one", block, []policy.Route{hops[0], hops[1]},
			RouteGet{Packet: marked("9.1.1.1"), Errno: syscall.ENETUNREACH}, RouteGet{Packet: marked("9.9.1.1"), Device: "dm0"}), groups...),
		withOps(walk("IPv6: a group", block6, []policy.Route{world6, lan6},
			RouteGet{Packet: marked("2a00::9"), Errno: syscall.ENETUNREACH}, RouteGet{Packet: marked("2001:db8:7::9"), Device: "dm0"}), groups...),
		exceptionScenario("IPv6: a path MTU lets a default pass", rule("6 100 fwmark 0x2005 lookup main suppress_prefixlength 0", 77), 0,
			RouteGet{Packet: marked("2a00::9"), Device: "dm0"}, RouteGet{Packet: marked("2a00::8"), Errno: syscall.ENETUNREACH}),
		exceptionScenario("IPv6: a group holds a path MTU", rule("6 100 fwmark 0x2005 lookup main suppress_prefixlength 0 suppress_ifgroup 77", 77), 77,
			RouteGet{Packet: marked("2a00::9"), Errno: syscall.ENETUNREACH}, RouteGet{Packet: marked("2a00::8"), Errno: syscall.ENETUNREACH}),
		exceptionScenario("IPv4: a path MTU suppresses nothing", rule("4 100 fwmark 0x2005 lookup main suppress_prefixlength 0", 77), 0,
			RouteGet{Packet: marked("9.9.9.9"), Errno: syscall.ENETUNREACH}),
	}
}

// exceptionScenario has main's default through dm0 learn a path MTU.
func exceptionScenario(name string, suppress policy.Rule, group uint32, gets ...RouteGet) Scenario {
	guard := policy.Rule{Family: suppress.Family, Priority: 101, Mark: suppress.Mark, Action: policy.Unreachable, Protocol: 77}
	defaults := []policy.Route{route("4 main default via 192.0.2.1 dev dm0 onlink", 3)}
	about := policy.Packet{Src: mustAddr("192.0.2.2"), Dst: mustAddr("9.9.9.9")}
	if gets[0].Packet.Dst.Is6() {
		defaults = []policy.Route{route("6 main default via fe80::1 dev dm0", 3)}
		about = policy.Packet{Src: netip.MustParseAddr("2001:db8:1::2"), Dst: gets[0].Packet.Dst}
	}
	c := walk(name, []policy.Rule{suppress, guard}, defaults, gets...)
	return withOps(c, setGroup("dm0", group, Done), Op{TooBig: about})
}

func withOps(c Scenario, ops ...Op) Scenario {
	c.Ops = slices.Concat(c.Ops, ops)
	return c
}
