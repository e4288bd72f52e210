package policy

import (
	"slices"
	"syscall"

	"wg-multihome/fwmark"
)

// Probe is a packet whose way is traced. More of it counts than of a Packet.
type Probe struct {
	Packet
	Device   string // that its socket is bound to; "": none
	Protocol uint8  // IPPROTO_*; 0: not said
	Port     uint16 // the destination's; 0: not said
}

// PortRange is a range of ports, both ends included. The zero PortRange is any.
type PortRange struct{ First, Last uint16 }

// Selectors are what a rule selects by beside the fields of Rule.
type Selectors struct {
	Protocol uint8     // IPPROTO_*; 0: any
	Ports    PortRange // the destination's
	Unknown  []string  // what cannot be judged here, named as in ip-rule(8)
}

// TracedRule is a rule with all that it selects by.
type TracedRule struct {
	Rule
	Selectors
}

// Result is what asking a rule came to.
type Result uint8

// The results. Those of a rule that does not decide have the next one asked.
const (
	SelectsOthers Result = iota // Asked.Differs names the selector
	FindsNothing                // its table has no route there
	Throws                      // its table has a throw route there
	PassesOver                  // it has a route there, which the rule suppresses
	Jumps                       // goto
	DoesNothing                 // nop, or a goto without a target
	Decides                     // by Asked.Route, or by Asked.Errno
)

// Asked is a rule that was asked, and what it came to.
type Asked struct {
	Rule    TracedRule
	Result  Result
	Differs string        // the selector that the packet does not have
	Route   Route         // that was found, if any
	Learned bool          // Route is an Exception: of the whole destination, with the path's MTU
	Errno   syscall.Errno // what the sender gets, where it decides so

	// Undecided are selectors that cannot be judged: Result is what the rule comes
	// to where they match, and the walk went on as where they do not.
	Undecided []string
}

// taken returns the route that a packet takes by a rule that decides.
func (a Asked) taken() Route {
	if a.Errno != 0 {
		return Route{}
	}
	return a.Route
}

// Trace is a packet's way through the rules.
type Trace struct {
	Asked []Asked // all rules up to the one that decides
	Verdict

	// Others are what becomes of the packet where selectors that cannot be judged
	// match.
	Others []Verdict

	// Equal are routes of the same table, destination and metric as the one that is
	// taken, which the kernel may take as well: other nexthops, other routers.
	Equal []Route

	// OnLink says that no rule leads anywhere, and that the kernel takes the
	// destination for one on the link of the device that the socket is bound to: in
	// IPv4 it does so whatever refuses (ip_route_output_key_hash_rcu).
	OnLink bool
}

// Trace asks the rules of a packet's family one by one, as Walk does. The rules of
// Routing are not looked at; routes are of every table.
func (w Routing) Trace(rules []TracedRule, p Probe) Trace {
	w.Rules = make([]Rule, len(rules))
	for i := range rules {
		w.Rules[i] = rules[i].Rule
	}
	var t Trace
	w.follow(rules, 0, &p, func(a Asked) { t.Asked = append(t.Asked, a) }, &t.Verdict)
	for i := range t.Asked {
		if a := &t.Asked[i]; len(a.Undecided) > 0 {
			w.taken(rules, a, &p, &t)
		}
	}
	t.Equal = w.equal(t.Verdict.Route)
	if t.Errno != 0 && p.Device != "" && fwmark.FamilyOf(p.Dst) == fwmark.IPv4 {
		t.OnLink, t.Verdict = true, Verdict{Route: Route{Family: fwmark.IPv4, Type: Unicast, Device: p.Device}}
	}
	return t
}

// follow asks rules from one on, and hands each to tell.
func (w Routing) follow(rules []TracedRule, from int, p *Probe, tell func(Asked), v *Verdict) {
	for i := from; i < len(rules); {
		differs, undecided := rules[i].judge(p)
		if differs != "" {
			tell(Asked{Rule: rules[i], Differs: differs})
			i++
			continue
		}
		a, next := w.ask(i, p)
		a.Rule, a.Undecided = rules[i], undecided
		tell(a)
		switch {
		case len(undecided) > 0:
			i++
		case a.Result == Decides:
			*v = Verdict{Rule: a.Rule.Rule, Route: a.taken(), Errno: a.Errno}
			return
		default:
			i = next
		}
	}
	*v = Verdict{Errno: syscall.ENETUNREACH}
}

// taken adds what becomes of a packet where a rule that cannot be judged selects
// it.
func (w Routing) taken(rules []TracedRule, a *Asked, p *Probe, t *Trace) {
	v := Verdict{Rule: a.Rule.Rule, Route: a.taken(), Errno: a.Errno}
	switch a.Result {
	case Decides:
	case Jumps: // what lies behind a goto in a goto is not followed further
		i := slices.IndexFunc(rules, func(r TracedRule) bool { return r.Priority == a.Rule.Table })
		w.follow(rules, i, p, func(Asked) {}, &v)
	default:
		return // as if it were not there
	}
	if !slices.Contains(t.Others, v) && v != t.Verdict {
		t.Others = append(t.Others, v)
	}
}

// judge names a selector that a packet does not have, or those that cannot be
// judged.
func (r *TracedRule) judge(p *Probe) (differs string, undecided []string) {
	undecided = slices.Clone(r.Unknown)
	differs = r.Rule.differs(p)
	switch {
	case differs != "" || r.Selectors.Protocol == 0:
	case p.Protocol == 0:
		undecided = append(undecided, "ipproto")
	case p.Protocol != r.Selectors.Protocol:
		differs = "ipproto"
	}
	switch {
	case differs != "" || r.Ports == PortRange{}:
	case p.Port == 0:
		undecided = append(undecided, "dport")
	case p.Port < r.Ports.First || p.Port > r.Ports.Last:
		differs = "dport"
	}
	if r.Opaque && len(undecided) == 0 && r.Selectors.Protocol == 0 && r.Ports == (PortRange{}) {
		undecided = append(undecided, "what is not known here")
	}
	switch {
	case !r.Invert && differs != "", r.Invert && differs == "" && len(undecided) == 0:
		if r.Invert {
			differs = "not"
		}
		return differs, nil
	case r.Invert && differs != "":
		return "", nil // whatever the others say
	}
	return "", undecided
}

// ask asks a rule that selects the packet. next is the index of the rule to ask
// then, where it does not decide.
func (w Routing) ask(i int, p *Probe) (a Asked, next int) {
	r := &w.Rules[i]
	next = i + 1
	switch r.Action {
	case Lookup:
		route, learned, found := w.find(r.Table, p)
		errno := routeErrno[route.Type]
		switch {
		case !found:
			a.Result = FindsNothing
			return a, next
		case route.Type == ThrowRoute:
			a.Result = Throws
		case errno != 0: // only routes that lead somewhere are suppressed
			a.Result, a.Errno = Decides, errno
		case r.Suppresses && route.Dst.Bits() <= int(r.Suppress), r.SuppressesGroup && w.group(route.Device) == r.SuppressGroup:
			a.Result = PassesOver
		default:
			a.Result = Decides
		}
		a.Route, a.Learned = route, learned
	case Goto:
		if to := gotoTarget(w.Rules, i); to != next || w.at(to, r) {
			a.Result, next = Jumps, to
			return a, next
		}
		a.Result = DoesNothing
	case Blackhole:
		a.Result, a.Errno = Decides, syscall.EINVAL
	case Prohibit:
		a.Result, a.Errno = Decides, syscall.EACCES
	case Unreachable:
		a.Result, a.Errno = Decides, syscall.ENETUNREACH
	default:
		a.Result = DoesNothing
	}
	return a, next
}

// at reports whether the rule of an index is the target of a goto.
func (w Routing) at(i int, r *Rule) bool {
	return i < len(w.Rules) && w.Rules[i].Family == r.Family && w.Rules[i].Priority == r.Table
}

// equal returns the routes that the kernel may take as well as one.
func (w Routing) equal(r Route) (list []Route) {
	if r.Table == 0 {
		return nil
	}
	for _, o := range w.Routes {
		if o.Family == r.Family && o.Table == r.Table && o.Dst == r.Dst && o.Metric == r.Metric && o != r {
			list = append(list, o)
		}
	}
	return list
}

// Resolved is what the kernel says of a packet, by its own look-up.
type Resolved struct {
	Answer
	Route Route // as the packet takes it: with the gateway, and the source that is chosen
	Match Route // the one that was found in a table; its Table is 0 where the kernel does not tell

	Learned bool // the packet takes an Exception of Match
}

// Agrees reports whether the kernel does what a trace says, or something that it
// leaves open.
func (t Trace) Agrees(k Resolved) bool {
	agrees := func(v Verdict, equal []Route) bool {
		if v.Errno != 0 || k.Errno != 0 {
			return v.Errno != 0 && k.Errno != 0
		}
		return k.leads(v.Route) || slices.ContainsFunc(equal, k.leads)
	}
	return agrees(t.Verdict, t.Equal) || slices.ContainsFunc(t.Others, func(v Verdict) bool { return agrees(v, nil) })
}

// leads reports whether the kernel's answer is by a route: the device has to be the
// same, and the table where both are known. What is this host's own leaves by lo.
func (k Resolved) leads(r Route) bool {
	const local RouteType = 2 // RTN_LOCAL
	if r.Type == local {
		return k.Route.Type == local
	}
	return k.Device == r.Device && (k.Match.Table == 0 || r.Table == 0 || k.Match.Table == r.Table)
}
