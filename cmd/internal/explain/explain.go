package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/policy"
)

// Look is what the kernel shows for one packet.
type Look struct {
	Rules  []policy.TracedRule // of its family
	Routes []policy.Route      // of all tables, that have its destination in them
	Kernel policy.Resolved     // its own look-up

	Exceptions []policy.Exception // what IPv6 has learned of paths to its destination
}

// Explanation is what becomes of a packet, and why. Field names are part of the
// contract of `explain --json`; addresses and marks are text.
type Explanation struct {
	Packet  Packet   `json:"packet"`
	Notes   []string `json:"notes"` // how a service is pinned, or why it is not
	Rules   []Rule   `json:"rules"` // up to the one that decides
	Lock    string   `json:"lock,omitempty"`
	Source  string   `json:"source,omitempty"`
	Kernel  Kernel   `json:"kernel"`
	Verdict Verdict  `json:"verdict"`
}

// Packet is what was asked about.
type Packet struct {
	What        string `json:"what"`
	Mark        string `json:"mark,omitempty"` // that it leaves with
	Source      string `json:"source,omitempty"`
	Device      string `json:"device,omitempty"` // that its socket is bound to
	Destination string `json:"destination"`
	Protocol    uint8  `json:"protocol,omitempty"` // IPPROTO_*
	Port        uint16 `json:"port,omitempty"`
	Uplink      string `json:"uplink,omitempty"` // that it belongs to
}

// Rule is a rule that was asked.
type Rule struct {
	Priority  uint32   `json:"priority"`
	Text      string   `json:"text"`
	Owner     string   `json:"owner,omitempty"` // where it is known
	Selects   bool     `json:"selects"`
	Decides   bool     `json:"decides"`
	Why       string   `json:"why"`
	Route     string   `json:"route,omitempty"`     // that it found
	PathMTU   uint32   `json:"path_mtu,omitempty"`  // that IPv6 has learned, which makes a route of its own
	Undecided []string `json:"undecided,omitempty"` // selectors that cannot be judged
}

// Kernel is the kernel's own look-up.
type Kernel struct {
	Agrees bool   `json:"agrees"`
	Text   string `json:"text"`
}

// Verdict is what becomes of the packet.
type Verdict struct {
	Outcome string `json:"outcome"` // leaves, stays (on this host), refused, dropped (by the second lock) or unknown
	Device  string `json:"device,omitempty"`
	Own     bool   `json:"own"` // it goes the way that it belongs to, or belongs to no uplink
	Text    string `json:"text"`
	Why     string `json:"why,omitempty"`
	Since   string `json:"since,omitempty"`
	Mend    string `json:"mend,omitempty"`

	Unless []string `json:"unless,omitempty"` // rules that cannot be judged, and what becomes of the packet if they take it
}

// Explainer explains packets of one host.
type Explainer struct {
	Decision decide.Decision
	Look     func(policy.Probe) (Look, error)
	Last     map[string]string // when an uplink had its last lease, where that is known
}

// Explain explains a subject's packet to a destination.
func (x *Explainer) Explain(s Subject, dst netip.Addr) (Explanation, error) {
	s.Probe.Dst = dst
	if s.Probe.Protocol == protocols["icmp"] && dst.Is6() {
		s.Probe.Protocol = icmp6
	}
	e := Explanation{Notes: append([]string{}, s.Notes...), Rules: []Rule{}}
	w := way{x: x, s: s}
	if err := w.follow(); err != nil {
		return e, err
	}
	e.Packet = Packet{What: s.What, Destination: dst.String(), Device: s.Probe.Device, Protocol: s.Probe.Protocol, Port: s.Probe.Port, Uplink: s.Uplink}
	if s.Probe.Src.IsValid() {
		e.Packet.Source = s.Probe.Src.String()
	}
	if w.probe.Mark != 0 {
		e.Packet.Mark = fmt.Sprintf("%#x", w.probe.Mark)
	}
	e.Notes = append(e.Notes, w.notes...)
	for _, a := range w.trace.Asked {
		e.Rules = append(e.Rules, x.rule(a, &w))
	}
	e.Kernel = w.kernel()
	e.Lock, e.Source = w.lock.text, w.source
	e.Verdict = w.verdict(e.Kernel.Agrees)
	return e, nil
}

// way is a packet's way, as far as it was followed.
type way struct {
	x      *Explainer
	s      Subject
	probe  policy.Probe // as it leaves
	look   Look
	trace  policy.Trace
	source string
	lock   lock
	notes  []string
}

// follow traces the packet; and once more where the table gives it a mark when it
// is on its way already (a chain of type route, which has it routed anew from the
// source that it has).
func (w *way) follow() error {
	w.probe = w.s.Probe
	if err := w.ask(); err != nil {
		return err
	}
	rules, missing := w.x.Decision.TableStands()
	if len(w.s.cgroups) > 0 && w.trace.Errno == 0 && w.look.Kernel.Errno == 0 {
		f := nft.WayThrough(rules).Send("output", nft.Packet{
			TCP: w.probe.Protocol == protocols["tcp"], Cgroups: w.s.cgroups, Src: w.src(), Dst: w.probe.Dst, ToHost: w.toHost(),
		})
		if f.Mark != 0 {
			w.notes = append(w.notes, fmt.Sprintf("source %s is chosen before it has the mark, by which it is routed again", w.src()))
			w.probe.Src, w.probe.Mark = w.src(), f.Mark
			if err := w.ask(); err != nil {
				return err
			}
		}
	}
	if w.trace.Errno == 0 {
		w.passLock(rules, missing)
	}
	return nil
}

func (w *way) ask() (err error) {
	if w.look, err = w.x.Look(w.probe); err != nil {
		return err
	}
	w.trace = policy.Routing{Routes: w.look.Routes, Links: w.x.Decision.Facts.Links, Exceptions: w.look.Exceptions}.Trace(w.look.Rules, w.probe)
	if src := w.src(); src.IsValid() {
		w.source = src.String()
	}
	return nil
}

// src is the source that the packet has, or that the kernel chooses.
func (w *way) src() netip.Addr {
	if w.probe.Src.IsValid() {
		return w.probe.Src
	}
	return w.look.Kernel.Route.Src
}

// device is what it leaves by: the kernel's choice where there are several as good.
func (w *way) device() string {
	if k := w.look.Kernel; k.Errno == 0 && slices.ContainsFunc(w.trace.Equal, func(r policy.Route) bool { return r.Device == k.Device }) {
		return k.Device
	}
	if w.trace.Verdict.Route.Type == local {
		return "lo"
	}
	return w.trace.Verdict.Route.Device
}

// local is RTN_LOCAL.
const local policy.RouteType = 2

func (w *way) toHost() bool { return w.x.hosts(w.probe.Dst) }

func (x *Explainer) hosts(a netip.Addr) bool {
	return slices.ContainsFunc(x.Decision.Facts.Addrs, func(o policy.Address) bool { return o.Prefix.Addr() == a })
}

// rule says what asking a rule came to.
func (x *Explainer) rule(a policy.Asked, w *way) Rule {
	r := Rule{
		Priority: a.Rule.Priority, Text: ruleText(a.Rule), Owner: owner(x.Decision, a.Rule.Rule), Selects: a.Result != policy.SelectsOthers,
		Undecided: a.Undecided, Why: why(a),
	}
	if a.Route.Type != 0 {
		r.Route = routeText(a.Route)
	}
	if a.Learned {
		r.PathMTU = a.Route.MTU
	}
	if len(a.Undecided) > 0 {
		r.Why = fmt.Sprintf("cannot be judged here (%s); if it takes the packet: %s", strings.Join(a.Undecided, ", "), r.Why)
	} else {
		r.Decides = a.Result == policy.Decides
	}
	return r
}

// why says in some words what asking a rule came to.
func why(a policy.Asked) string {
	switch a.Result {
	case policy.SelectsOthers:
		return "for other packets (" + a.Differs + ")"
	case policy.FindsNothing:
		return "nothing for it there"
	case policy.Throws:
		return "a throw route there: the next rule is asked"
	case policy.PassesOver:
		if a.Rule.Suppresses && a.Route.Dst.Bits() <= int(a.Rule.Suppress) {
			return "only a default there: passed over"
		}
		return "only " + found(a) + ", by an uplink or a full tunnel: passed over"
	case policy.Jumps:
		return "go on there"
	case policy.DoesNothing:
		return "does nothing"
	}
	switch {
	case a.Errno == 0:
		return found(a)
	case a.Route.Type != 0:
		return fmt.Sprintf("refused (%s) by %s", a.Errno, routeText(a.Route))
	}
	return fmt.Sprintf("refused (%s)", a.Errno)
}

// learned is said beside a route of IPv6 that is what a router told of a path.
const learned = " (a path MTU that a router told)"

// found is the text of the route that a rule has found.
func found(a policy.Asked) string {
	if a.Learned {
		return routeText(a.Route) + learned
	}
	return routeText(a.Route)
}

// ruleText is a rule's text without family and priority, and with all selectors.
func ruleText(r policy.TracedRule) string {
	_, text, _ := strings.Cut(r.Rule.String(), fmt.Sprintf(" %d ", r.Priority))
	others := append([]string{}, r.Unknown...)
	if r.Selectors.Protocol != 0 {
		others = append(others, fmt.Sprintf("ipproto %d", r.Selectors.Protocol))
	}
	if r.Ports != (policy.PortRange{}) {
		others = append(others, fmt.Sprintf("dport %d-%d", r.Ports.First, r.Ports.Last))
	}
	if len(others) > 0 {
		text = strings.Replace(text, "(and more)", "("+strings.Join(others, ", ")+")", 1)
	}
	if r.Mark.Mask == 0 && !r.From.IsValid() && !r.To.IsValid() && !r.Invert {
		text = "from all " + text
	}
	return text
}

// routeText is a route's text without family and table.
func routeText(r policy.Route) string {
	_, text, _ := strings.Cut(strings.TrimPrefix(r.String(), "route "), " ")
	_, text, _ = strings.Cut(text, " ")
	for kind, word := range map[policy.RouteType]string{
		local: "local", 3: "broadcast", 4: "anycast", 5: "multicast",
		policy.BlackholeRoute: "blackhole", policy.UnreachableRoute: "unreachable", policy.ProhibitRoute: "prohibit", policy.ThrowRoute: "throw",
	} {
		text = strings.Replace(text, fmt.Sprintf("type-%d", kind), word, 1)
	}
	return text
}

// kernel compares with the kernel's own look-up.
func (w *way) kernel() Kernel {
	k := w.look.Kernel
	text := fmt.Sprintf("refuses it (%s)", k.Errno)
	if k.Errno == 0 {
		text = routeText(k.Route)
	}
	if k.Learned {
		text += learned
	}
	if w.trace.Agrees(k) {
		return Kernel{true, text}
	}
	return Kernel{false, text}
}

// family of the packet.
func (w *way) family() fwmark.Family { return fwmark.FamilyOf(w.probe.Dst) }
