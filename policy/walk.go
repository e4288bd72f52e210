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
	MTU   uint32 // of the path, in bytes; 0: not known
}

// Walk asks the rules one by one, as the kernel does for a packet
// (fib_rules_lookup).
//
// The packet is bound to no device. What a rule selects by beside the fields of
// Rule (see Opaque) counts as matching.
func (w Routing) Walk(p Packet) Verdict {
	probe := Probe{Packet: p}
	family := fwmark.FamilyOf(p.Dst)
	for i := 0; i < len(w.Rules); {
		r := &w.Rules[i]
		if r.Family != family || !r.selects(&probe) {
			i++
			continue
		}
		a, next := w.ask(i, &probe)
		if a.Result == Decides {
			return Verdict{Rule: *r, Route: a.taken(), Errno: a.Errno}
		}
		i = next
	}
	return Verdict{Errno: syscall.ENETUNREACH}
}

// routeErrno is what the types of routes that lead nowhere answer
// (fib_props of net/ipv4/fib_semantics.c, fib6_prop of net/ipv6/route.c).
var routeErrno = [256]syscall.Errno{
	BlackholeRoute: syscall.EINVAL, UnreachableRoute: syscall.EHOSTUNREACH, ProhibitRoute: syscall.EACCES,
}

// gotoTarget returns the index of the first rule at the priority that rule i
// leads to. Without one the rule does nothing.
func gotoTarget(rules []Rule, i int) int {
	for j, r := range rules {
		if r.Family == rules[i].Family && r.Priority == rules[i].Table {
			return j
		}
	}
	return i + 1
}

// selects is fib_rule_match, for a packet that comes from this host. Of an opaque
// rule it is not known whether its other selectors match: it is taken as matching,
// with `not` too.
func (r *Rule) selects(p *Probe) bool { return r.differs(p) == "" != r.Invert || r.Opaque && r.Invert }

// differs names the first of a rule's selectors that a packet does not have; "":
// it has all. IPv6 compares no source that is not chosen yet (fib6_rule_match).
func (r *Rule) differs(p *Probe) string {
	src := p.Src
	if !src.IsValid() && r.Family == fwmark.IPv4 {
		src = r.Family.Unspecified()
	}
	switch {
	case (p.Mark^r.Mark.Value)&r.Mark.Mask != 0:
		return "fwmark"
	case r.From.IsValid() && !r.From.Contains(src):
		return "from"
	case r.To.IsValid() && !r.To.Contains(p.Dst):
		return "to"
	case r.Iif != "" && r.Iif != "lo":
		return "iif"
	case r.Oif != "" && r.Oif != p.Device:
		return "oif"
	}
	return ""
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
// first one with the lowest metric. A packet that is bound to a device finds those
// through it alone, and in IPv4 those that refuse (fib_table_lookup). learned says
// that an exception of the route was found in its place.
func (w Routing) find(table uint32, p *Probe) (best Route, learned, found bool) {
	for _, r := range w.Routes {
		if r.Table != table || r.Family != fwmark.FamilyOf(p.Dst) || !r.Dst.Contains(p.Dst) || !r.usable(p.Device) {
			continue
		}
		longer := !found || r.Dst.Bits() > best.Dst.Bits()
		if longer || r.Dst == best.Dst && r.Metric < best.Metric {
			best, found = r, true
		}
	}
	for _, e := range w.Exceptions {
		if found && e.Dst == p.Dst && e.Route == best {
			best.Dst = netip.PrefixFrom(p.Dst, p.Dst.BitLen())
			if e.MTU != 0 {
				best.MTU = e.MTU
			}
			learned = true
		}
	}
	return best, learned, found
}

func (r *Route) usable(device string) bool {
	return device == "" || r.Device == device || r.Family == fwmark.IPv4 && (routeErrno[r.Type] != 0 || r.Type == ThrowRoute)
}
