package policy

import (
	"net/netip"

	"wg-multihome/fwmark"
)

// Feed stands for routes of one table through one device that are too many to
// be kept one by one, as those of a full feed of the Internet are: for what a
// RouteCollector did not keep of them.
type Feed struct {
	Family fwmark.Family
	Table  uint32
	Device string

	dst       ranges   // destinations of its unicast routes
	connected ranges   // of those without a gateway
	coverage  coverage // whether they lead everywhere
	near      bool     // there are some without a gateway, or to private destinations, among them
}

func (f *Feed) tableKey() tableKey { return tableKey{f.Family, f.Table} }

// ManyRanges is how many ranges of destinations a device, or main, has at the
// most that decisions tell apart. Of more of them they are told so many, and one
// (see DestinationsByDevice and Reach): that says that they are too many.
const ManyRanges = 4096

// RouteCollector keeps of routes, as they are read, what decisions depend on.
// These routes it keeps one by one:
//
//   - ours;
//   - those of shortBits and shorter, which may be a part of a default;
//   - of the others in a table through a device the first keptRoutes of those that
//     are private or have no gateway, and the first keptRoutes of the rest.
//
// Of what comes then it keeps unicast routes' destinations, as a Feed.
type RouteCollector struct {
	facts  *Facts
	before int // routes that the facts had
	crowds map[feedKey]*crowd
	last   *crowd // its key comes again and again
}

const (
	shortBits  = 12
	keptRoutes = ManyRanges
)

type feedKey struct {
	family fwmark.Family
	table  uint32
	device string
}

// crowd is the routes of a table through a device.
type crowd struct {
	feedKey
	kept [2]int // of those that are not kept in any case: the rest, and those that are near
	feed *Feed
}

// CollectRoutes begins to add routes to the facts.
func CollectRoutes(f *Facts) *RouteCollector {
	c := &RouteCollector{facts: f, before: len(f.Routes)}
	c.Restart()
	return c
}

// Restart takes back all that was added.
func (c *RouteCollector) Restart() {
	c.facts.Routes, c.crowds, c.last = c.facts.Routes[:c.before], map[feedKey]*crowd{}, nil
}

// Add takes a route in, of which it keeps a copy.
func (c *RouteCollector) Add(r *Route) {
	if r.Ours() || r.Dst.Bits() <= shortBits {
		c.keep(r)
		return
	}
	crowd := c.crowd(r)
	near := 0
	if r.near() {
		near = 1
	}
	switch {
	case crowd.kept[near] < keptRoutes:
		crowd.kept[near]++
		c.keep(r)
	case r.Type == Unicast:
		crowd.add(r)
		crowd.feed.near = crowd.feed.near || near == 1
	}
}

// near reports whether a route is one of those that a table of ours may have as a
// copy although there are many others.
func (r *Route) near() bool { return r.connected() || IsPrivate(r.Dst) }

func (c *RouteCollector) keep(r *Route) { c.facts.Routes = append(c.facts.Routes, *r) }

func (c *RouteCollector) crowd(r *Route) *crowd {
	k := feedKey{r.Family, r.Table, r.Device}
	if c.last != nil && c.last.feedKey == k {
		return c.last
	}
	if c.crowds[k] == nil {
		c.crowds[k] = &crowd{feedKey: k}
	}
	c.last = c.crowds[k]
	return c.last
}

func (c *crowd) add(r *Route) {
	if c.feed == nil {
		of := ranges{family: c.family}
		c.feed = &Feed{Family: c.family, Table: c.table, Device: c.device, dst: of, connected: of}
	}
	c.feed.dst.add(r.Dst)
	c.feed.coverage.add(r.Dst)
	if r.connected() {
		c.feed.connected.add(r.Dst)
	}
}

// Done adds the feeds, after the last route.
func (c *RouteCollector) Done() {
	for _, crowd := range c.crowds {
		if feed := crowd.feed; feed != nil {
			feed.dst.settle()
			feed.connected.settle()
			c.facts.Feeds = append(c.facts.Feeds, feed)
		}
	}
}

// merged returns the prefixes of what is in a list or in some of the feeds: as
// they are without a feed, and merged with one, see prefixesOf.
func merged(list []netip.Prefix, feeds []*Feed) []netip.Prefix {
	if len(feeds) == 0 {
		return list
	}
	var all []netip.Prefix
	for _, family := range fwmark.Families {
		listed := ranges{family: family}
		for _, p := range list {
			if fwmark.FamilyOf(p.Addr()) == family {
				listed.add(p)
			}
		}
		listed.settle()
		lists := []*ranges{&listed}
		for _, f := range feeds {
			if f.Family == family {
				lists = append(lists, &f.dst)
			}
		}
		all = append(all, prefixesOf(family, ManyRanges, lists...)...)
	}
	return all
}
