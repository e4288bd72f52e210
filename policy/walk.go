package policy

import (
	"net/netip"
	"syscall"

	"wg-multihome/fwmark"
)

// Packet is a packet that this host sends, as the rules see it.
type Packet struct {
	Mark uint32
	Src  netip.Addr // invalid: not chosen yet
	Dst  netip.Addr
}

// Verdict says what becomes of a packet, and by which rule.
type Verdict struct {
	Rule  Rule          // the one that decided; the zero Rule where none did
	Route Route         // the one that the packet takes, where Errno is 0
	Errno syscall.Errno // what the sender gets in place of a route
}

// Routing is what decides where packets go.
type Routing struct {
	Rules  []Rule  // those of Facts: of one family in the order in which the kernel asks them
	Routes []Route // of every table that they look up; of one that is not there, the kernel finds no route either
	Links  []Link  // their groups count

	// Exceptions are what IPv6 has learned of paths. The kernel keeps one at the
	// route that it came by, and finds it where it finds that route.
	Exceptions []Exception
}

// Exception is what the kernel keeps of one destination of a route: in IPv6 a
// copy of the route with the full length (rt6_find_cached_rt).
type Exception struct {
	Route Route
	Dst   netip.Addr
}

// Walk asks the rules one by one, as the kernel does for a packet
// (fib_rules_lookup).
//
// The packet is bound to no device. What a rule selects by beside the fields of
// Rule (see Opaque) counts as matching.
func (w Routing) Walk(p Packet) Verdict {
	family := fwmark.FamilyOf(p.Dst)
	for i := 0; i < len(w.Rules); i++ {
		r := w.Rules[i]
		if r.Family != family || !r.selects(p) {
			continue
		}
		switch r.Action {
		case Lookup:
			route, found := w.find(r.Table, p.Dst)
			errno := routeErrno[route.Type]
			switch {
			case !found, route.Type == ThrowRoute:
			case errno != 0: // only routes that lead somewhere are suppressed
				return Verdict{Rule: r, Errno: errno}
			case r.Suppresses && route.Dst.Bits() <= int(r.Suppress), r.SuppressesGroup && w.group(route.Device) == r.SuppressGroup:
			default:
				return Verdict{Rule: r, Route: route}
			}
		case Goto:
			i = gotoTarget(w.Rules, i)
		case Blackhole:
			return Verdict{Rule: r, Errno: syscall.EINVAL}
		case Prohibit:
			return Verdict{Rule: r, Errno: syscall.EACCES}
		case Unreachable:
			return Verdict{Rule: r, Errno: syscall.ENETUNREACH}
		}
	}
	return Verdict{Errno: syscall.ENETUNREACH}
}

// routeErrno is what the types of routes that lead nowhere answer
// (fib_props of net/ipv4/fib_semantics.c, fib6_prop of net/ipv6/route.c).
var routeErrno = [256]syscall.Errno{
	BlackholeRoute: syscall.EINVAL, UnreachableRoute: syscall.EHOSTUNREACH, ProhibitRoute: syscall.EACCES,
}

// gotoTarget returns the index before the first rule at the priority that rule
// i leads to. Without one the rule does nothing.
func gotoTarget(rules []Rule, i int) int {
	for j, r := range rules {
		if r.Family == rules[i].Family && r.Priority == rules[i].Table {
			return j - 1
		}
	}
	return i
}

// selects is fib_rule_match, for a packet that comes from this host and is bound
// to no device. Of an opaque rule it is not known whether its other selectors
// match: it is taken as matching, with `not` too.
func (r Rule) selects(p Packet) bool {
	src := p.Src
	if !src.IsValid() {
		src = fwmark.FamilyOf(p.Dst).Unspecified()
	}
	match := (r.Iif == "" || r.Iif == "lo") && r.Oif == "" && (p.Mark^r.Mark.Value)&r.Mark.Mask == 0 &&
		(!r.From.IsValid() || r.From.Contains(src)) && (!r.To.IsValid() || r.To.Contains(p.Dst))
	return match != r.Invert || r.Opaque && r.Invert
}

// group returns the group of a device. Of a multipath route it is that of the
// first nexthop (fib4_rule_suppress), or of the chosen one (fib6_rule_suppress).
func (w Routing) group(device string) uint32 {
	for i := range w.Links {
		if w.Links[i].Name == device {
			return w.Links[i].Group
		}
	}
	return 0
}

// find returns the route of a table with the longest prefix, and of those the
// first one with the lowest metric.
func (w Routing) find(table uint32, dst netip.Addr) (Route, bool) {
	var best Route
	found := false
	for _, r := range w.Routes {
		if r.Table != table || r.Family != fwmark.FamilyOf(dst) || !r.Dst.Contains(dst) {
			continue
		}
		longer := !found || r.Dst.Bits() > best.Dst.Bits()
		if longer || r.Dst == best.Dst && r.Metric < best.Metric {
			best, found = r, true
		}
	}
	for _, e := range w.Exceptions {
		if found && e.Dst == dst && e.Route == best {
			best.Dst = netip.PrefixFrom(dst, dst.BitLen())
		}
	}
	return best, found
}
