// Package policytest reads the text of steps, rules and routes back. Tests write
// in that text what stands and what should follow; the program only ever writes
// it.
package policytest

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// ParseStep reads what Step.String writes, and nothing else: what it returns
// prints as the same text. Protocols are not part of the text: rules and
// routes get ours, a rule "(taken over)" gets 0, as iproute2 gives it.
func ParseStep(text string) (policy.Step, error) {
	body, takenOver := strings.CutSuffix(text, " (taken over)")
	p := parser{words: strings.Split(body, " ")}
	s := p.step(takenOver)
	switch {
	case p.err != nil:
	case len(p.words) > 0:
		p.fail("%q is too much", strings.Join(p.words, " "))
	case s.String() != text:
		p.fail("it is written %q", s)
	}
	if p.err != nil {
		return policy.Step{}, fmt.Errorf("step %q: %w", text, p.err)
	}
	return s, nil
}

// parser takes the words of a step one by one, and keeps the first error.
type parser struct {
	words  []string
	family fwmark.Family
	err    error
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

// next takes a word; after the last one it is "".
func (p *parser) next() string {
	if len(p.words) == 0 {
		return ""
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

// has takes the next word where it is key.
func (p *parser) has(key string) bool {
	if len(p.words) == 0 || p.words[0] != key {
		return false
	}
	p.next()
	return true
}

func (p *parser) step(takenOver bool) policy.Step {
	var s policy.Step
	switch op := p.next(); op {
	case "+", "-":
		s.Op = policy.Op(op[0])
	case "=":
		return p.link(takenOver)
	default:
		p.fail("%q is none of + - =", op)
	}
	kind := p.next()
	switch f := p.next(); f {
	case "4":
		p.family = fwmark.IPv4
	case "6":
		p.family = fwmark.IPv6
	default:
		p.fail("%q is no address family", f)
	}
	switch {
	case kind == "rule":
		s.Rule = p.rule()
		if takenOver {
			s.Rule.Protocol = 0
		}
		if takenOver && s.Op == policy.Add {
			p.fail("what is taken over is not added")
		}
	case kind == "route" && !takenOver:
		s.IsRoute, s.Route = true, p.route()
	default:
		p.fail("%q is neither a rule nor a route of ours", kind)
	}
	return s
}

// link reads what follows the sign of a link's step.
func (p *parser) link(takenOver bool) policy.Step {
	s := policy.Step{Op: policy.Set}
	if takenOver || !p.has("link") {
		p.fail("what is set is a link's group")
	}
	s.Link.Device = p.name()
	if !p.has("group") {
		p.fail("a link's group is missing")
	}
	s.Link.Group = p.number(p.next())
	return s
}

// rule reads what follows "rule FAMILY", in the order of Rule.String.
func (p *parser) rule() policy.Rule {
	r := policy.Rule{Family: p.family, Priority: p.number(p.next()), Protocol: policy.Protocol}
	r.Invert = p.has("not")
	if p.has("from") {
		r.From = p.prefix(p.next())
	}
	if p.has("to") {
		r.To = p.prefix(p.next())
	}
	if p.has("fwmark") {
		r.Mark = p.mark(p.next())
	}
	if p.has("iif") {
		r.Iif = p.name()
	}
	if p.has("oif") {
		r.Oif = p.name()
	}
	switch r.Action = p.action(p.next()); r.Action {
	case policy.Lookup:
		r.Table = p.table(p.next())
	case policy.Goto:
		r.Table = p.number(p.next())
	}
	if p.has("suppress_prefixlength") {
		r.Suppresses, r.Suppress = true, p.number(p.next())
	}
	if p.has("suppress_ifgroup") {
		r.SuppressesGroup, r.SuppressGroup = true, p.number(p.next())
	}
	return r
}

// route reads what follows "route FAMILY", in the order of Route.String.
func (p *parser) route() policy.Route {
	r := policy.Route{Family: p.family, Table: p.table(p.next()), Type: policy.Unicast, Metric: defaultMetric(p.family), Protocol: policy.Protocol}
	if len(p.words) > 0 && strings.HasPrefix(p.words[0], "type-") {
		r.Type = policy.RouteType(p.typeNumber(p.next()))
	}
	if p.has("default") {
		r.Dst = netip.PrefixFrom(p.family.Unspecified(), 0)
	} else {
		r.Dst = p.prefix(p.next())
	}
	if p.has("via") {
		r.Gateway = p.addr(p.next()) // of either family: RTA_VIA
	}
	if p.has("dev") {
		r.Device = p.name()
	}
	if p.has("src") {
		if r.Src = p.addr(p.next()); p.err == nil && fwmark.FamilyOf(r.Src) != p.family {
			p.fail("source %s is of the other family", r.Src)
		}
	}
	if p.has("metric") {
		r.Metric = p.number(p.next())
	}
	r.OnLink = p.has("onlink")
	if p.has("mtu") {
		r.MTU = p.number(p.next())
	}
	if p.has("advmss") {
		r.AdvMSS = p.number(p.next())
	}
	if p.has("pref") {
		switch w := p.next(); w {
		case "low":
			r.Preference = policy.LowPreference
		case "high":
			r.Preference = policy.HighPreference
		default:
			p.fail("%q is no preference of a router", w)
		}
	}
	return r
}

// defaultMetric is that of a route whose text has none.
func defaultMetric(family fwmark.Family) uint32 {
	if family == fwmark.IPv6 {
		return 1024
	}
	return 0
}

func (p *parser) number(s string) uint32 {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		p.fail("%w", err)
	}
	return uint32(n)
}

func (p *parser) typeNumber(s string) uint8 {
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "type-"), 10, 8)
	if err != nil {
		p.fail("%w", err)
	}
	return uint8(n)
}

func (p *parser) name() string {
	n := p.next()
	if n == "" {
		p.fail("an interface's name is missing")
	}
	return n
}

// mark reads what Mark.String writes. A rule can select packets without some
// bits, which is no mark that a configuration could have.
func (p *parser) mark(s string) fwmark.Mark {
	m := fwmark.Mark{Mask: fwmark.FullMask}
	value, mask, masked := strings.Cut(s, "/")
	hex := func(s string) uint32 {
		n, err := strconv.ParseUint(s, 0, 32)
		if err != nil {
			p.fail("%w", err)
		}
		return uint32(n)
	}
	m.Value = hex(value)
	if masked {
		m.Mask = hex(mask)
	}
	if m.Mask == 0 {
		p.fail("mark %q selects nothing", s)
	}
	return m
}

func (p *parser) action(s string) policy.Action {
	for a := policy.Action(0); ; a++ {
		switch {
		case a.String() == s:
			return a
		case a == math.MaxUint8:
			p.fail("%q is no action", s)
			return 0
		}
	}
}

func (p *parser) table(s string) uint32 {
	switch s {
	case "main":
		return policy.TableMain
	case "local":
		return policy.TableLocal
	case "default":
		return policy.TableDefault
	}
	return p.number(s)
}

func (p *parser) addr(s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		p.fail("%w", err)
	case a.Zone() != "":
		p.fail("address %q has a zone", s)
	}
	return a
}

// prefix reads an address or a prefix. One of length 0 selects nothing, and is
// never written.
func (p *parser) prefix(s string) netip.Prefix {
	var prefix netip.Prefix
	if strings.Contains(s, "/") {
		var err error
		if prefix, err = netip.ParsePrefix(s); err != nil {
			p.fail("%w", err)
		}
	} else if a := p.addr(s); a.IsValid() {
		prefix = netip.PrefixFrom(a, a.BitLen())
	}
	switch {
	case p.err != nil:
	case fwmark.FamilyOf(prefix.Addr()) != p.family:
		p.fail("%s is of the other family", s)
	case prefix.Bits() == 0 || prefix != prefix.Masked():
		p.fail("%s is no prefix of a rule or route", s)
	}
	return prefix
}
