package policy

import (
	"net/netip"

	"wg-multihome/fwmark"
)

// Facts is what stands now: the kernel's answers and the DHCP clients' leases.
type Facts struct {
	Links []Link
	Addrs []Address
	Rules []Rule // of both families, each in the order in which the kernel asks them

	// Routes are all of main, all of ours, all of the tables that foreign rules look
	// up, and of those that a WireGuard device's mark may be the number of; and of
	// every table those through uplinks whose gateway nothing else tells.
	Routes []Route
	Feeds  []*Feed // in place of those of them that are too many

	Leases []Lease

	// Group is the configured link group of uplinks; 0: the configuration could
	// not be read.
	Group uint32

	// Families tells for which families the kernel has policy rules.
	Families [2]bool

	// ScriptRules are the foreign rules that this run has recognised as the
	// original shell script's. They are remembered because those that are left
	// when some of them were deleted could not be recognised any more.
	ScriptRules []Rule
}

// Link is a network interface.
type Link struct {
	Name         string
	Up           bool // IFF_UP; carrier does not matter
	PointToPoint bool
	Loopback     bool
	WireGuard    bool
	Kind         string // as in `ip link add type KIND`, "tun" for tap too; "": none
	Group        uint32 // 0 where nobody has set one
	VRF          string // the VRF that it is in; "": none

	// MTU is the largest packet of each family, bytes; 0: not known. A router's
	// advertisement may allow less in IPv6 than the link does (RFC 4861, 4.6.4).
	MTU [2]uint32
}

// Address is an address of an interface.
type Address struct {
	Device     string
	Prefix     netip.Prefix
	Global     bool // scope global
	Unready    bool // tentative, or failed duplicate address detection: refused as a source
	Tentative  bool // of these, one whose detection goes on
	Deprecated bool
	Temporary  bool       // RFC 8981
	Broadcast  netip.Addr // invalid: none
}

// Lease is a DHCP lease as recorded.
type Lease struct {
	Device  string
	Address netip.Addr // invalid: unreadable record, the interface is an uplink all the same
	Gateway netip.Addr // invalid: none; unspecified: the link has none
}

// Route is a route. A multipath route is one Route for each nexthop.
type Route struct {
	Family   fwmark.Family
	Table    uint32
	Dst      netip.Prefix // masked; a default has length 0
	Type     RouteType
	Gateway  netip.Addr // invalid: none. Of the other family for RTA_VIA
	Device   string
	Src      netip.Addr // invalid: none
	Metric   uint32
	Protocol uint8
	OnLink   bool
	MTU      uint32 // 0: not set, here and below
	AdvMSS   uint32

	Preference Preference // of IPv6, the router's

	Hop int // its place in a multipath route, from 1; 0: the route has one nexthop

	// Opaque says that the route has attributes that this program does not
	// know: a type of service, for one. Such a route is foreign.
	Opaque bool
}

// Preference is that of a default router, RFC 4191.
type Preference int8

// The preferences.
const (
	LowPreference    Preference = -1
	MediumPreference Preference = 0
	HighPreference   Preference = 1
)

// RouteType is rtm_type, RTN_* of linux/rtnetlink.h.
type RouteType uint8

// The types that decisions depend on.
const (
	Unicast          RouteType = 1
	BlackholeRoute   RouteType = 6
	UnreachableRoute RouteType = 7
	ProhibitRoute    RouteType = 8
	ThrowRoute       RouteType = 9 // the table has no route: the next rule is asked
)

// Ours reports whether the route carries our protocol number.
func (r Route) Ours() bool {
	return r.Protocol == Protocol && !r.Opaque && r.Hop == 0 && r.Preference == MediumPreference
}

func (r Route) isDefault() bool { return r.Dst.Bits() == 0 }

// connected reports whether the route leads to destinations on the link.
func (r *Route) connected() bool {
	return r.Type == Unicast && !r.Gateway.IsValid() && r.Hop == 0 && !r.isDefault()
}

// same reports whether two routes are the same to us. Where they differ in
// `onlink` alone they are: it is only about what the kernel checks on adding.
func (r Route) same(o Route) bool {
	r.OnLink = o.OnLink
	return r == o
}

// replacedBy reports whether adding o replaces r.
func (r Route) replacedBy(o Route) bool {
	return r.Family == o.Family && r.Table == o.Table && r.Dst == o.Dst && r.Metric == o.Metric
}
