package policytest

import (
	"fmt"
	"net/netip"
	"syscall"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// Way is what became of a packet.
type Way struct {
	Device string // lo where it stays on this host
	Errno  syscall.Errno
	Rule   policy.Rule // that decided; the zero Rule where it is not known
}

// Converge makes a host's rules and routes, and checks whose destinations are. look
// observes, make makes a step, ask tells a packet's way.
//
// After each step since the guards stand, nothing that is pinned leaves for a public
// destination through another uplink, nor through anything that leads everywhere. In
// the end packets leave as Destinations says.
//
// An old host has the rules and routes of earlier versions at first, without a
// group: then what is pinned, or sent from an uplink's address, leaves so by no step
// that did not before, and by none at all once rules and routes are open.
func Converge(h Host, old bool, look func() policy.Facts, make func(policy.Step) error, ask func(policy.Packet) Way) error {
	c := check{host: h, look: look, ask: ask}
	if c.decide(); old {
		for _, s := range earlier(c.wanted.State) {
			if err := make(s); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
	}
	for range 3 {
		c.decide()
		plan := policy.Diff(c.wanted.Have, c.wanted.State)
		if plan.Empty() {
			return c.all()
		}
		before := map[string]bool{}
		if old {
			before = c.leaks(true)
		}
		guarded := old
		for i, s := range append(plan.Open, plan.Close...) {
			guarded = guarded || s.Op != policy.Set && !s.IsRoute && s.Rule.Action != policy.Unreachable
			if err := make(s); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
			if !guarded {
				continue
			}
			now := c.leaks(old)
			for leak := range now {
				if !before[leak] || i >= len(plan.Open)-1 {
					return fmt.Errorf("after %s: %s", s, leak)
				}
			}
			before = now
		}
		old = false
	}
	return fmt.Errorf("there is still something to do: %v", policy.Diff(c.wanted.Have, c.wanted.State))
}

// earlier returns the steps that make of what is wanted what earlier versions made.
func earlier(want policy.State) (steps []policy.Step) {
	for _, r := range want.Routes {
		if r.Dst.Bits() == 0 {
			steps = append(steps, policy.Step{Op: policy.Add, IsRoute: true, Route: r})
		}
	}
	for _, r := range want.Rules {
		if r.SuppressesGroup, r.SuppressGroup = false, 0; r.Table != policy.TableLocal {
			steps = append(steps, policy.Step{Op: policy.Add, Rule: r})
		}
	}
	return steps
}

type check struct {
	host   Host
	look   func() policy.Facts
	ask    func(policy.Packet) Way
	facts  policy.Facts
	wanted policy.Wanted
	away   map[string]bool
	sent   []sent
}

// sent is what selects packets of an uplink, in one family.
type sent struct {
	family fwmark.Family
	mark   uint32
	src    netip.Addr
	uplink string
}

func (c *check) decide() {
	c.facts = c.look()
	uplinks, _ := policy.Uplinks(c.facts, c.host.Intents, false)
	pins, _ := fwmark.Resolve(c.host.Intents, nil, policy.Standing(c.facts), nil, nil)
	c.wanted = policy.Want(c.facts, uplinks, pins, policy.DefaultPriority)
	c.away = policy.Away(c.facts, uplinks)
	c.sent = nil
	for _, f := range fwmark.Families {
		for _, p := range pins {
			c.sent = append(c.sent, sent{family: f, mark: p.Mark.Value, uplink: p.Uplink})
		}
	}
	paired := map[netip.Addr]bool{}
	for _, r := range c.wanted.Rules {
		paired[r.From.Addr()] = true
	}
	for _, r := range c.wanted.Routes {
		if r.Dst.Bits() == 0 && paired[r.Src] {
			c.sent = append(c.sent, sent{family: r.Family, src: r.Src, uplink: r.Device})
		}
	}
}

// leaks returns what leaves for a public destination by another uplink than its own.
func (c *check) leaks(sources bool) map[string]bool {
	leaks := map[string]bool{}
	for _, s := range c.sent {
		for _, dst := range c.host.Destinations {
			if s.mark == 0 && !sources || fwmark.FamilyOf(dst) != s.family || policy.IsPrivate(netip.PrefixFrom(dst, dst.BitLen())) || c.through(dst) {
				continue
			}
			way := c.ask(policy.Packet{Mark: s.mark, Src: s.src, Dst: dst})
			if way.Errno == 0 && c.away[way.Device] && way.Device != s.uplink && !c.others(s, dst) {
				leaks[fmt.Sprintf("%+v to %s leaves by %s", s, dst, way.Device)] = true
			}
		}
	}
	return leaks
}

func (c *check) through(dst netip.Addr) bool {
	for _, in := range c.host.Intents {
		for _, p := range in.Through {
			if p.Contains(dst) {
				return true
			}
		}
	}
	return false
}

// others reports whether a foreign rule in front of ours leads a packet somewhere:
// an administrator's word, or a VPN's for a part of the Internet.
func (c *check) others(s sent, dst netip.Addr) bool {
	first := uint32(0)
	for _, r := range c.wanted.Rules {
		if r.Family == s.family && r.Suppresses && (r.Mark.Value == s.mark && s.mark != 0 || s.mark == 0 && r.From.IsValid() && r.From.Addr() == s.src) {
			first = r.Priority
		}
	}
	var front []policy.Rule
	for _, r := range c.facts.Rules {
		if r.Family == s.family && !r.Ours() && r.Priority > 0 && r.Priority <= first+2 && r.Table != policy.TableLocal {
			front = append(front, r)
		}
	}
	v := policy.Routing{Rules: front, Routes: c.facts.Routes, Links: c.facts.Links}.Walk(policy.Packet{Mark: s.mark, Src: s.src, Dst: dst})
	return v.Rule != (policy.Rule{})
}

// all checks every kind of destination.
func (c *check) all() error {
	for _, s := range c.sent {
		for _, dst := range c.host.Destinations {
			if fwmark.FamilyOf(dst) != s.family || c.others(s, dst) {
				continue
			}
			owner := c.wanted.Destinations.Of(s.uplink, dst)
			way := c.ask(policy.Packet{Mark: s.mark, Src: s.src, Dst: dst})
			want := Way{Device: owner.Route.Device}
			switch {
			case owner.Whose == policy.TheHosts:
				continue
			case owner.Route == (policy.Route{}):
				want = Way{Errno: syscall.ENETUNREACH}
			case owner.Route.Type != policy.Unicast:
				want = Way{Errno: refusals[owner.Route.Type]}
			}
			if way.Device != want.Device || way.Errno != want.Errno {
				return fmt.Errorf("%+v to %s leaves by %q (%d), not as %+v", s, dst, way.Device, way.Errno, owner)
			}
		}
		if err := c.own(s); err != nil {
			return err
		}
	}
	return nil
}

// own checks what is sent to this host's own addresses. A link that has just come
// may not have one of IPv6 as yet.
func (c *check) own(s sent) error {
	for _, a := range c.facts.Addrs {
		addr := a.Prefix.Addr()
		if fwmark.FamilyOf(addr) != s.family || addr.IsLinkLocalUnicast() || c.others(s, addr) || c.ask(policy.Packet{Dst: addr}).Device != loopback {
			continue
		}
		if way := c.ask(policy.Packet{Mark: s.mark, Src: s.src, Dst: addr}); way.Device != loopback {
			return fmt.Errorf("%+v to this host's %s leaves by %q (%d)", s, addr, way.Device, way.Errno)
		}
	}
	return nil
}

const loopback = "lo"

var refusals = map[policy.RouteType]syscall.Errno{
	policy.BlackholeRoute: syscall.EINVAL, policy.UnreachableRoute: syscall.EHOSTUNREACH, policy.ProhibitRoute: syscall.EACCES,
}
