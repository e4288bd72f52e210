package sim

import (
	"net/netip"
	"syscall"

	"wg-multihome/policy"
	"wg-multihome/policy/policytest"
)

// Scenario is a sequence of operations, each with what the kernel answers, and
// what then stands.
type Scenario struct {
	Name string
	Ops  []Op

	// Rules and Routes are what stands at the end, without what a new
	// namespace with Links and Addrs has by itself. Rules of one family are in
	// the order in which they are asked.
	Rules  []policy.Rule
	Routes []policy.Route

	RouteGets []RouteGet
}

// Op is one operation. Of the step's rule or route every field counts as it
// is: what is zero is not sent.
type Op struct {
	policy.Step
	Append bool          // of a route: NLM_F_APPEND in place of NLM_F_REPLACE, as others add routes
	TooBig policy.Packet // in place of a step, where Dst is valid: "packet too big" comes in by dm0 about that packet
	Errno  syscall.Errno
}

// RouteGet is a route look-up at the end, `ip route get`.
type RouteGet struct {
	Packet policy.Packet
	Device string // where the packet leaves, if Errno is Done
	Errno  syscall.Errno
}

// Links are the interfaces that every scenario begins with: of
// kind veth each, with the other end up too.
var Links = []policy.Link{{Name: "dm0", Up: true}, {Name: "dm1", Up: true}, {Name: "dmdown"}}

// Addrs are their addresses. They are set with noprefixroute (and nodad), so
// that main is empty.
var Addrs = []policy.Address{
	{Device: "dm0", Prefix: netip.MustParsePrefix("192.0.2.2/24"), Global: true},
	{Device: "dm1", Prefix: netip.MustParsePrefix("198.51.100.2/24"), Global: true},
	{Device: "dm0", Prefix: netip.MustParsePrefix("2001:db8:1::2/64"), Global: true},
	{Device: "dm1", Prefix: netip.MustParsePrefix("2001:db8:2::2/64"), Global: true},
}

// NewForScenario returns a kernel as each scenario begins with.
func NewForScenario() *Kernel {
	k := New()
	k.Links, k.Addrs = append(k.Links, Links...), append(k.Addrs, Addrs...)
	return k
}

// Run makes an operation.
func (k *Kernel) Run(o Op) syscall.Errno {
	switch {
	case o.TooBig.Dst.IsValid():
		k.LearnMTU(o.TooBig.Src, o.TooBig.Dst)
		return Done
	case o.Append:
		return k.AppendRoute(o.Route)
	}
	return k.Do(o.Step)
}

// rule reads the text of a rule, without "rule", of the given protocol.
func rule(text string, protocol uint8) policy.Rule {
	s, err := policytest.ParseStep("- rule " + text)
	if err != nil {
		panic(err) // a mistake in Scenarios: their tests would not start
	}
	s.Rule.Protocol = protocol
	return s.Rule
}

// route reads the text of a route, without "route", of the given protocol.
func route(text string, protocol uint8) policy.Route {
	s, err := policytest.ParseStep("- route " + text)
	if err != nil {
		panic(err) // as above
	}
	s.Route.Protocol = protocol
	return s.Route
}

func addRule(r policy.Rule, errno syscall.Errno) Op {
	return Op{Step: policy.Step{Op: policy.Add, Rule: r}, Errno: errno}
}

func deleteRule(r policy.Rule, errno syscall.Errno) Op {
	return Op{Step: policy.Step{Op: policy.Delete, Rule: r}, Errno: errno}
}

func setGroup(device string, group uint32, errno syscall.Errno) Op {
	return Op{Step: policy.Step{Op: policy.Set, Link: policy.LinkGroup{Device: device, Group: group}}, Errno: errno}
}

func addRoute(r policy.Route, errno syscall.Errno) Op {
	return Op{Step: policy.Step{Op: policy.Add, IsRoute: true, Route: r}, Errno: errno}
}

func appendRoute(r policy.Route, errno syscall.Errno) Op {
	o := addRoute(r, errno)
	o.Append = true
	return o
}

func deleteRoute(r policy.Route, errno syscall.Errno) Op {
	return Op{Step: policy.Step{Op: policy.Delete, IsRoute: true, Route: r}, Errno: errno}
}
