package sim

import (
	"slices"
	"syscall"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

func routeScenarios() []Scenario {
	ours := route("4 16909060 default via 192.0.2.1 dev dm0 src 192.0.2.2 onlink", 77)
	moved := route("4 16909060 default via 198.51.100.1 dev dm1 src 198.51.100.2 onlink", 77)
	script := route("4 16909060 default via 192.0.2.9 dev dm0 onlink", 3)
	metric := route("4 16909060 default via 192.0.2.1 dev dm0 src 192.0.2.2 metric 5 onlink", 77)
	bare := route("4 16909060 default dev dm0 src 192.0.2.2", 77)
	six := route("6 4026531840 default via 2001:db8:1::1 dev dm0 src 2001:db8:1::2 onlink", 77)
	sixMoved := route("6 4026531840 default via fe80::1 dev dm1 src 2001:db8:2::2", 77)
	sixBare := route("6 4026531840 default dev dm0", 3)
	only := func(r ...policy.Route) []policy.Route { return r }
	with := func(r policy.Route, change func(*policy.Route)) policy.Route {
		change(&r)
		return r
	}
	small := func(r *policy.Route) { r.MTU, r.AdvMSS = 1400, 1360 }
	return []Scenario{
		{Name: "a route replaces itself", Ops: []Op{addRoute(ours, Done), addRoute(ours, Done)}, Routes: only(ours)},
		{Name: "a route replaces another's, whatever its protocol", Ops: []Op{addRoute(script, Done), addRoute(ours, Done)}, Routes: only(ours)},
		{Name: "a route that moves", Ops: []Op{addRoute(ours, Done), addRoute(moved, Done)}, Routes: only(moved)},
		{Name: "another metric is another place", Ops: []Op{addRoute(ours, Done), addRoute(metric, Done)}, Routes: only(ours, metric)},
		{Name: "the identical route stands second", Ops: []Op{addRoute(script, Done), appendRoute(ours, Done), addRoute(ours, syscall.EEXIST)}, Routes: only(script, ours)},
		{Name: "of two the first is replaced", Ops: []Op{addRoute(script, Done), appendRoute(ours, Done), addRoute(bare, Done)}, Routes: only(bare, ours)},
		{Name: "delete with every field", Ops: []Op{addRoute(script, Done), appendRoute(ours, Done), deleteRoute(ours, Done), deleteRoute(ours, syscall.ESRCH)}, Routes: only(script)},
		{Name: "a protocol of 0 deletes any route", Ops: []Op{addRoute(script, Done), appendRoute(ours, Done),
			deleteRoute(policy.Route{Family: fwmark.IPv4, Table: 16909060, Dst: ours.Dst, Device: "dm0"}, Done)}, Routes: only(ours)},
		{Name: "a metric of 0 deletes any metric", Ops: []Op{addRoute(metric, Done), deleteRoute(ours, Done)}},
		{Name: "without a gateway any gateway goes", Ops: []Op{addRoute(ours, Done), deleteRoute(bare, Done)}},
		{Name: "another source stays", Ops: []Op{addRoute(ours, Done), deleteRoute(with(ours, func(r *policy.Route) { r.Src = mustAddr("192.0.2.3") }), syscall.ESRCH)}, Routes: only(ours)},
		{Name: "another table", Ops: []Op{addRoute(ours, Done), deleteRoute(with(ours, func(r *policy.Route) { r.Table = 7 }), syscall.ESRCH)}, Routes: only(ours)},
		{Name: "a source that is not there", Ops: []Op{
			addRoute(with(ours, func(r *policy.Route) { r.Src = mustAddr("192.0.2.3") }), syscall.EINVAL),
			addRoute(with(six, func(r *policy.Route) { r.Src = mustAddr("2001:db8:1::3") }), syscall.EINVAL)}},
		{Name: "a link that is down", Ops: []Op{
			addRoute(with(ours, func(r *policy.Route) { r.Device = "dmdown" }), syscall.ENETDOWN),
			addRoute(with(six, func(r *policy.Route) { r.Device = "dmdown" }), syscall.ENETDOWN)}},
		{Name: "a gateway that nothing covers", Ops: []Op{
			addRoute(with(ours, func(r *policy.Route) { r.OnLink = false }), syscall.ENETUNREACH),
			addRoute(with(six, func(r *policy.Route) { r.OnLink = false }), syscall.EHOSTUNREACH)}},
		{Name: "a gateway that main covers", Ops: []Op{
			addRoute(route("4 main 192.0.2.0/24 dev dm0", 3), Done), addRoute(with(ours, func(r *policy.Route) { r.OnLink = false }), Done)},
			Routes: only(route("4 main 192.0.2.0/24 dev dm0", 3), with(ours, func(r *policy.Route) { r.OnLink = false }))},
		{Name: "sizes of packets", Ops: []Op{
			addRoute(ours, Done), addRoute(with(ours, small), Done), addRoute(six, Done), addRoute(with(six, small), Done)},
			Routes: only(with(ours, small), with(six, small))},
		{Name: "other sizes stay, in IPv4", Ops: []Op{
			addRoute(with(ours, small), Done), deleteRoute(with(ours, func(r *policy.Route) { r.MTU = 1401 }), syscall.ESRCH),
			addRoute(with(six, small), Done), deleteRoute(with(six, func(r *policy.Route) { r.MTU = 1401 }), Done)},
			Routes: only(with(ours, small))},
		{Name: "without sizes any sizes go", Ops: []Op{addRoute(with(ours, small), Done), deleteRoute(ours, Done)}},
		{Name: "a router's preference", Ops: []Op{
			addRoute(with(six, func(r *policy.Route) { r.Preference = policy.HighPreference }), Done),
			addRoute(with(sixMoved, func(r *policy.Route) { r.Metric, r.Preference = 1025, policy.LowPreference }), Done)},
			Routes: only(with(six, func(r *policy.Route) { r.Preference = policy.HighPreference }),
				with(sixMoved, func(r *policy.Route) { r.Metric, r.Preference = 1025, policy.LowPreference }))},
		{Name: "IPv6 replaces by metric", Ops: []Op{addRoute(six, Done), addRoute(sixMoved, Done)}, Routes: only(sixMoved)},
		{Name: "IPv6 replaces a route without a gateway", Ops: []Op{addRoute(sixBare, Done), addRoute(six, Done)}, Routes: only(six)},
		{Name: "IPv6 looks at no source to delete", Ops: []Op{addRoute(six, Done), deleteRoute(with(six, func(r *policy.Route) { r.Src = mustAddr("2001:db8:1::3") }), Done)}},
		{Name: "IPv6 looks at the gateway to delete", Ops: []Op{addRoute(six, Done),
			deleteRoute(with(six, func(r *policy.Route) { r.Gateway = mustAddr("2001:db8:1::9") }), syscall.ESRCH)}, Routes: only(six)},
		{Name: "IPv6 looks at the protocol to delete", Ops: []Op{addRoute(six, Done),
			deleteRoute(with(six, func(r *policy.Route) { r.Protocol = 3 }), syscall.ESRCH)}, Routes: only(six)},
		{Name: "tables above 2³¹ are no part of main", Ops: []Op{addRoute(route("4 3221225986 default via 192.0.2.1 dev dm0 src 192.0.2.2 onlink", 77), Done)},
			Routes: only(route("4 3221225986 default via 192.0.2.1 dev dm0 src 192.0.2.2 onlink", 77))},
	}
}

// walkScenarios are about the way of a packet through the rules. Destinations are
// of both /1 routes, sources are dm0's and dm1's.
func walkScenarios() []Scenario {
	var routes, routes6 []policy.Route
	for _, text := range []string{
		"4 main default via 198.51.100.1 dev dm1 onlink", "4 main 203.0.113.0/24 via 198.51.100.7 dev dm1 onlink",
		"4 3221225986 default via 192.0.2.1 dev dm0 src 192.0.2.2 onlink", "4 500 128.0.0.0/1 dev dm1",
	} {
		routes = append(routes, route(text, 3))
	}
	for _, text := range []string{
		"6 main default via fe80::1 dev dm1", "6 main 2001:db8:7::/48 via fe80::1 dev dm1", "6 4026531840 default via fe80::1 dev dm0",
	} {
		routes6 = append(routes6, route(text, 3))
	}
	block := []policy.Rule{
		rule("4 100 fwmark 0x2005 lookup main suppress_prefixlength 0", 77),
		rule("4 101 fwmark 0x2005 lookup 3221225986", 77),
		rule("4 102 fwmark 0x2005 unreachable", 77),
	}
	low, high, lan := mustAddr("9.9.9.9"), mustAddr("192.88.99.1"), mustAddr("203.0.113.5")
	low6, lan6 := mustAddr("2a00::9"), mustAddr("2001:db8:7::9")
	own, others := mustAddr("192.0.2.2"), mustAddr("198.51.100.2")
	marked := func(src, dst string) policy.Packet {
		return policy.Packet{Mark: 0x2005, Src: addrOrNone(src), Dst: mustAddr(dst)}
	}
	unreachable := []policy.Route{{Family: fwmark.IPv4, Table: policy.TableMain, Dst: route("4 main default", 3).Dst, Type: policy.UnreachableRoute, Protocol: 3, Metric: 9}}
	return []Scenario{
		walk("a block and its table", block, routes,
			RouteGet{Packet: marked("", low.String()), Device: "dm0"}, RouteGet{Packet: marked("198.51.100.2", high.String()), Device: "dm0"},
			RouteGet{Packet: marked("", lan.String()), Device: "dm1"}, RouteGet{Packet: policy.Packet{Dst: low}, Device: "dm1"},
			RouteGet{Packet: policy.Packet{Mark: 0x2006, Src: own, Dst: low}, Device: "dm1"}),
		walk("a block without its table", block, routes[:2],
			RouteGet{Packet: marked("", low.String()), Errno: syscall.ENETUNREACH}, RouteGet{Packet: marked("", lan.String()), Device: "dm1"}),
		walk("a pair", []policy.Rule{
			rule("4 100 from 192.0.2.2 lookup main suppress_prefixlength 0", 77), rule("4 101 from 192.0.2.2 lookup 3221225986", 77)}, routes,
			RouteGet{Packet: policy.Packet{Src: own, Dst: low}, Device: "dm0"}, RouteGet{Packet: policy.Packet{Src: own, Dst: lan}, Device: "dm1"},
			RouteGet{Packet: policy.Packet{Src: others, Dst: low}, Device: "dm1"}, RouteGet{Packet: policy.Packet{Dst: low}, Device: "dm1"}),
		walk("a /1 route passes suppress 0", []policy.Rule{rule("4 100 lookup 500 suppress_prefixlength 0", 0), rule("4 101 unreachable", 0)}, routes,
			RouteGet{Packet: policy.Packet{Dst: high}, Device: "dm1"}, RouteGet{Packet: policy.Packet{Dst: low}, Errno: syscall.ENETUNREACH}),
		walk("suppress 1 stops a /1 route", []policy.Rule{rule("4 100 lookup 500 suppress_prefixlength 1", 0), rule("4 101 unreachable", 0)}, routes,
			RouteGet{Packet: policy.Packet{Dst: high}, Errno: syscall.ENETUNREACH}),
		walk("nothing suppresses an unreachable route", block, append(unreachable, routes[1:3]...),
			RouteGet{Packet: marked("", low.String()), Errno: syscall.EHOSTUNREACH}, RouteGet{Packet: marked("", lan.String()), Device: "dm1"}),
		walk("not, masks, and iif lo", []policy.Rule{
			rule("4 100 not fwmark 0x2005 iif lo lookup 3221225986", 0)}, routes,
			RouteGet{Packet: policy.Packet{Dst: low}, Device: "dm0"}, RouteGet{Packet: marked("", low.String()), Device: "dm1"}),
		walk("a mark under a mask", []policy.Rule{rule("4 100 fwmark 0x2000/0xff00 lookup 3221225986", 0)}, routes,
			RouteGet{Packet: policy.Packet{Mark: 0xab2077, Dst: low}, Device: "dm0"}, RouteGet{Packet: policy.Packet{Mark: 0x2100, Dst: low}, Device: "dm1"}),
		walk("to, and prohibit", []policy.Rule{rule("4 100 to 128.0.0.0/1 prohibit", 0), rule("4 101 to 9.9.9.9 lookup 3221225986", 0)}, routes,
			RouteGet{Packet: policy.Packet{Dst: high}, Errno: syscall.EACCES}, RouteGet{Packet: policy.Packet{Dst: low}, Device: "dm0"}, RouteGet{Packet: policy.Packet{Dst: mustAddr("9.9.9.8")}, Device: "dm1"}),
		walk("goto", []policy.Rule{
			rule("4 100 fwmark 0x1 goto 102", 0), rule("4 101 unreachable", 0), rule("4 102 nop", 0), rule("4 103 lookup 3221225986", 0)}, routes,
			RouteGet{Packet: policy.Packet{Mark: 1, Dst: low}, Device: "dm0"}, RouteGet{Packet: policy.Packet{Dst: low}, Errno: syscall.ENETUNREACH}),
		walk("a goto without a target", []policy.Rule{rule("4 100 goto 102", 0), rule("4 101 lookup 3221225986", 0)}, routes,
			RouteGet{Packet: policy.Packet{Dst: low}, Device: "dm0"}),
		walk("IPv6", []policy.Rule{
			rule("6 100 fwmark 0x2005 lookup main suppress_prefixlength 0", 77), rule("6 101 fwmark 0x2005 lookup 4026531840", 77),
			rule("6 102 fwmark 0x2005 unreachable", 77)}, routes6,
			RouteGet{Packet: policy.Packet{Mark: 0x2005, Dst: low6}, Device: "dm0"}, RouteGet{Packet: policy.Packet{Mark: 0x2005, Dst: lan6}, Device: "dm1"},
			RouteGet{Packet: policy.Packet{Dst: low6}, Device: "dm1"}),
	}
}

// routeTypeScenarios are about routes that lead nowhere.
func routeTypeScenarios() []Scenario {
	var refusing []policy.Route
	for _, text := range []string{
		"4 main type-6 10.6.0.0/16", "4 main type-7 10.7.0.0/16", "4 main type-8 10.8.0.0/16",
		"6 main type-6 2001:db8:6::/48 dev lo", "6 main type-7 2001:db8:7::/48 dev lo", "6 main type-8 2001:db8:8::/48 dev lo",
	} {
		refusing = append(refusing, route(text, 3))
	}
	throwing := []policy.Rule{rule("4 100 lookup 500", 0), rule("6 100 lookup 500", 0)}
	throws := []policy.Route{
		route("4 500 type-9 10.9.0.0/16", 3), route("4 500 default dev dm0", 3),
		route("6 500 type-9 2001:db8:9::/48 dev lo", 3), route("6 500 default via fe80::1 dev dm0", 3),
	}
	return []Scenario{
		walk("routes that lead nowhere", nil, refusing,
			RouteGet{Packet: policy.Packet{Dst: mustAddr("10.6.0.1")}, Errno: syscall.EINVAL}, RouteGet{Packet: policy.Packet{Dst: mustAddr("10.7.0.1")}, Errno: syscall.EHOSTUNREACH},
			RouteGet{Packet: policy.Packet{Dst: mustAddr("10.8.0.1")}, Errno: syscall.EACCES}, RouteGet{Packet: policy.Packet{Dst: mustAddr("2001:db8:6::1")}, Errno: syscall.EINVAL},
			RouteGet{Packet: policy.Packet{Dst: mustAddr("2001:db8:7::1")}, Errno: syscall.EHOSTUNREACH}, RouteGet{Packet: policy.Packet{Dst: mustAddr("2001:db8:8::1")}, Errno: syscall.EACCES}),
		walk("throw asks the next rule", throwing, append(slices.Clone(throws), route("4 main default via 198.51.100.1 dev dm1 onlink", 3), route("6 main default via fe80::1 dev dm1", 3)),
			RouteGet{Packet: policy.Packet{Dst: mustAddr("10.9.0.1")}, Device: "dm1"}, RouteGet{Packet: policy.Packet{Dst: mustAddr("9.9.9.9")}, Device: "dm0"},
			RouteGet{Packet: policy.Packet{Dst: mustAddr("2001:db8:9::1")}, Device: "dm1"}, RouteGet{Packet: policy.Packet{Dst: mustAddr("2a00::9")}, Device: "dm0"}),
	}
}

func walk(name string, rules []policy.Rule, routes []policy.Route, gets ...RouteGet) Scenario {
	c := Scenario{Name: "walk: " + name, Rules: rules, Routes: routes, RouteGets: gets}
	for _, r := range routes {
		c.Ops = append(c.Ops, addRoute(r, Done))
	}
	for _, r := range rules {
		c.Ops = append(c.Ops, addRule(r, Done))
	}
	return c
}
