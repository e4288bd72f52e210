package events

import (
	"fmt"
	"net/netip"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/policy"
	"wg-multihome/policy/kernel"
)

// Interest is what looks at the host go by. Main's routes, and those of our
// protocol, are always of interest, and so are all links, addresses and rules.
type Interest struct {
	// Tables are the others whose routes are read.
	Tables map[decide.RouteTable]bool

	// Gateways says that an uplink's gateway is looked for in all tables.
	Gateways bool

	// Places are cgroups and files. With Again the way to them is gone once more,
	// though they are the same and nothing was heard of them: something may have been
	// mounted there.
	Places []Place
	Again  bool
}

// Bounds on what is remembered to tell news from what is known. Where there is
// more, it is forgotten, and heard of once more.
const (
	maxKnown   = 4096
	maxDropped = 1024
)

// shortPrefix is up to which length, in bits, a route may lead everywhere, or be
// one of a few that do together.
const shortPrefix = 8

type addressKey struct {
	index  uint32
	prefix netip.Prefix
}

type link struct {
	policy.Link
	master uint32
}

// filter tells what matters from what does not.
type filter struct {
	interest Interest
	links    map[uint32]link
	addrs    map[addressKey]policy.Address

	// dropped are the tables whose routes did not matter since the last look began:
	// by what that look finds they may.
	dropped map[decide.RouteTable]bool
	many    bool // more than maxDropped
}

// forget forgets what is known: messages were lost.
func (f *filter) forget() { f.links, f.addrs = nil, nil }

// looking says that a look begins: what was dropped before it, it sees.
func (f *filter) looking() { f.dropped, f.many = nil, false }

// follow changes what is of interest, and reports whether something was dropped
// since the look began that matters by it.
func (f *filter) follow(i Interest) (missed bool) {
	missed = f.many && len(i.Tables) > 0 || i.Gateways && !f.interest.Gateways && (f.many || len(f.dropped) > 0)
	for t := range f.dropped {
		missed = missed || i.Tables[t]
	}
	f.interest = i
	return missed
}

// matters reports whether a notice may change what a look finds.
func (f *filter) matters(n kernel.Notice) bool {
	switch n.Subject {
	case kernel.LinkSubject:
		return f.linkMatters(n)
	case kernel.AddressSubject:
		return f.addressMatters(n)
	case kernel.RouteSubject:
		return f.routeMatters(n.Route)
	case kernel.RuleSubject, kernel.NexthopSubject:
		return true
	}
	return false
}

func (f *filter) linkMatters(n kernel.Notice) bool {
	now := link{n.Link, n.Master}
	before, known := f.links[n.Index]
	switch {
	case n.Gone:
		delete(f.links, n.Index)
		return true
	case known && before == now: // statistics, carrier, settings
		return false
	case f.links == nil, len(f.links) >= maxKnown:
		f.links = map[uint32]link{}
	}
	f.links[n.Index] = now
	return true
}

// addressMatters drops those whose lifetimes alone have changed: router
// advertisements tell of them each few seconds.
func (f *filter) addressMatters(n kernel.Notice) bool {
	key := addressKey{n.Index, n.Address.Prefix}
	before, known := f.addrs[key]
	switch {
	case n.Gone:
		delete(f.addrs, key)
		return true
	case known && before == n.Address:
		return false
	case f.addrs == nil, len(f.addrs) >= maxKnown:
		f.addrs = map[addressKey]policy.Address{}
	}
	f.addrs[key] = n.Address
	return true
}

func (f *filter) routeMatters(r kernel.RouteNotice) bool {
	table := decide.RouteTable{Family: r.Family, Number: r.Table}
	switch {
	case r.Cloned, r.Table == policy.TableLocal:
		return false
	case r.Table == policy.TableMain, r.Protocol == policy.Protocol, f.interest.Tables[table]:
		return true
	case f.interest.Gateways && r.Type == policy.Unicast && r.Bits <= shortPrefix:
		return true
	case f.dropped[table] || f.many:
	case len(f.dropped) >= maxDropped:
		f.many = true
	default:
		if f.dropped == nil {
			f.dropped = map[decide.RouteTable]bool{}
		}
		f.dropped[table] = true
	}
	return false
}

// cause is what a notice tells, by name.
func cause(n kernel.Notice) Cause {
	c := Cause{Gone: n.Gone}
	switch n.Subject {
	case kernel.LinkSubject:
		c.Kind, c.Device, c.Text = Link, n.Link.Name, "link "+n.Link.Name
	case kernel.AddressSubject:
		c.Kind, c.Text = Address, "address "+n.Address.Prefix.String()
	case kernel.RouteSubject:
		c.Kind, c.Protocol = Route, n.Route.Protocol
		c.Text = fmt.Sprintf("route %s of table %d", n.Route.Family, n.Route.Table)
	case kernel.RuleSubject:
		c.Kind, c.Protocol, c.Text = Rule, n.Rule.Protocol, n.Rule.String()
	case kernel.NexthopSubject:
		c.Kind, c.Text = Nexthop, "nexthop object"
	}
	return c
}
