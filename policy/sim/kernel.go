// Package sim is a kernel for tests, and no part of the program: rules and
// routes, and how they change, as measured on Linux 6.18 and read in
// net/core/fib_rules.c, net/ipv4/fib_trie.c and net/ipv6/route.c. A packet's
// way through them is policy.Routing.Walk.
//
// Scenarios are operations with what the kernel answers to each. They are run
// against this package and against a network namespace, so that neither can
// drift from the other.
package sim

import (
	"net/netip"
	"slices"
	"syscall"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// Done is what an operation that the kernel accepts returns.
const Done = syscall.Errno(0)

// Kernel is the state of one network namespace. The zero value has neither
// rules nor interfaces; New has the rules that every namespace begins with.
type Kernel struct {
	Links []policy.Link
	Addrs []policy.Address

	Exceptions []policy.Exception // of path MTUs; those of routes that are gone find nothing

	rules  [2][]policy.Rule // by family, in the order in which they are asked
	routes []policy.Route   // of equal table, destination and metric the first one counts
}

// New returns a kernel with the rules of a new network namespace.
func New() *Kernel {
	k := &Kernel{}
	for _, f := range fwmark.Families {
		k.rules[f] = boot(f)
	}
	return k
}

// boot returns the rules of a new network namespace, fib_default_rules_init
// and fib6_rules_net_init.
func boot(f fwmark.Family) []policy.Rule {
	at := func(priority, table uint32) policy.Rule {
		return policy.Rule{Family: f, Priority: priority, Action: policy.Lookup, Table: table, Protocol: policy.ProtocolKernel}
	}
	rules := []policy.Rule{at(0, policy.TableLocal), at(32766, policy.TableMain)}
	if f == fwmark.IPv4 {
		rules = append(rules, at(32767, policy.TableDefault))
	}
	return rules
}

// Clone returns a copy that shares nothing with k.
func (k *Kernel) Clone() *Kernel {
	return &Kernel{
		Links: slices.Clone(k.Links), Addrs: slices.Clone(k.Addrs), routes: slices.Clone(k.routes),
		rules:      [2][]policy.Rule{slices.Clone(k.rules[0]), slices.Clone(k.rules[1])},
		Exceptions: slices.Clone(k.Exceptions),
	}
}

// Facts returns all that stands, as a reader of the real kernel would.
func (k *Kernel) Facts() policy.Facts {
	c := k.Clone()
	return policy.Facts{
		Links: c.Links, Addrs: c.Addrs, Routes: c.routes,
		Rules:    append(c.rules[fwmark.IPv4], c.rules[fwmark.IPv6]...),
		Families: [2]bool{true, true},
	}
}

// Rules returns the rules of a family in the order in which they are asked,
// those of boot included.
func (k *Kernel) Rules(f fwmark.Family) []policy.Rule { return slices.Clone(k.rules[f]) }

// Routes returns all routes.
func (k *Kernel) Routes() []policy.Route { return slices.Clone(k.routes) }

// Do makes a step as kernel.Client.Apply does, but for what counts as no
// failure there: it returns the kernel's own answer.
func (k *Kernel) Do(s policy.Step) syscall.Errno {
	switch {
	case s.Op == policy.Set:
		return k.SetGroup(s.Link)
	case s.IsRoute && s.Op == policy.Add:
		return k.ReplaceRoute(s.Route)
	case s.IsRoute:
		return k.DeleteRoute(s.Route)
	case s.Op == policy.Add:
		return k.AddRule(s.Rule)
	}
	_, errno := k.DeleteRule(s.Rule)
	return errno
}

// SetGroup is RTM_SETLINK with IFLA_GROUP.
func (k *Kernel) SetGroup(l policy.LinkGroup) syscall.Errno {
	for i := range k.Links {
		if k.Links[i].Name == l.Device {
			k.Links[i].Group = l.Group
			return Done
		}
	}
	return syscall.ENODEV
}

// LearnMTU is a "packet too big" that comes in by a device about a packet from src
// to dst (ip6_update_pmtu): the route that an unmarked packet takes by that device
// gets an exception. (Here: the one that it takes by any device.) IPv4 keeps them at the next hop, where they suppress nothing.
func (k *Kernel) LearnMTU(src, dst netip.Addr) {
	if r, errno := k.Walk(policy.Packet{Src: src, Dst: dst}); errno == Done && fwmark.FamilyOf(dst) == fwmark.IPv6 {
		for _, o := range k.routes { // the whole one, where this is an exception already
			if o.Table == r.Table && o.Dst.Contains(dst) && o.Device == r.Device && o.Gateway == r.Gateway && o.Metric == r.Metric {
				k.Exceptions = append(k.Exceptions, policy.Exception{Route: o, Dst: dst})
			}
		}
	}
}

// LinkDown sets an interface down: its routes go, of all tables and of both
// families, but for none of its addresses here (IPv6 ones that go are for the
// caller to remove).
func (k *Kernel) LinkDown(name string) {
	for i := range k.Links {
		if k.Links[i].Name == name {
			k.Links[i].Up = false
		}
	}
	k.dropRoutes(func(r policy.Route) bool { return r.Device == name })
}

// LinkUp sets an interface up, which brings no route back.
func (k *Kernel) LinkUp(name string) {
	for i := range k.Links {
		if k.Links[i].Name == name {
			k.Links[i].Up = true
		}
	}
}

// RemoveAddress takes an address from an interface. The last IPv4 address
// takes the routes of its family along, in all tables; while another one
// stays, routes keep the dead source. IPv6 routes lose their source.
func (k *Kernel) RemoveAddress(device string, addr netip.Addr) {
	k.Addrs = slices.DeleteFunc(k.Addrs, func(a policy.Address) bool { return a.Device == device && a.Prefix.Addr() == addr })
	family := fwmark.FamilyOf(addr)
	if family == fwmark.IPv6 {
		for i := range k.routes {
			if r := &k.routes[i]; r.Device == device && r.Src == addr {
				r.Src = netip.Addr{}
			}
		}
		return
	}
	if !slices.ContainsFunc(k.Addrs, func(a policy.Address) bool {
		return a.Device == device && fwmark.FamilyOf(a.Prefix.Addr()) == family
	}) {
		k.dropRoutes(func(r policy.Route) bool { return r.Family == family && r.Device == device })
	}
}

func (k *Kernel) dropRoutes(goes func(policy.Route) bool) {
	k.routes = slices.DeleteFunc(k.routes, goes)
}
