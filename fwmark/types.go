package fwmark

import (
	"net/netip"
	"slices"
)

// Intent is what the configuration says of one uplink.
type Intent struct {
	Uplink string // interface name, or "" where a mark is configured but no interface has it now
	Origin string // file, and stanza where there are several: "/etc/network/interfaces: iface eth0"

	Mark       Mark     // zero: none
	Devices    []string // WireGuard devices to pin
	Cgroups    []string // cgroups to pin, as paths below the cgroup2 mount; an empty list counts, nil is none
	RotatePort []string // those of Devices whose listen port is to change at a refresh
	Marking    Marking  // of what Cgroups lists, and of `run`

	Gateways       [2]netip.Addr // by Family: multihomed-gateway, or gateway in TOML; invalid: none
	StanzaGateways [2]netip.Addr // by Family: the stanza's own gateway, of ifupdown; invalid: none

	// AddressGateways has, by address, another gateway than the stanza's, which
	// stands beside it: that of an alias, or of a further stanza.
	AddressGateways map[netip.Addr]netip.Addr

	// Through are destinations that everybody reaches through this uplink, also
	// who is pinned to another one. Sources are this uplink's addresses whichever
	// interface of this host has them. All are masked. No prefix is claimed by two
	// uplinks; of those that contain one another the longest counts.
	Through, Sources []netip.Prefix
}

// Options reports whether the intent holds an option of ours, and not merely a
// stanza's own gateway.
func (i Intent) Options() bool {
	return !i.Mark.IsZero() || len(i.Devices) > 0 || i.Cgroups != nil || len(i.RotatePort) > 0 || i.Marking != Unsaid ||
		i.Gateways[IPv4].IsValid() || i.Gateways[IPv6].IsValid() || len(i.Through) > 0 || len(i.Sources) > 0
}

// WithoutOptions returns what ifupdown's own options say alone.
func (i Intent) WithoutOptions() Intent {
	return Intent{Uplink: i.Uplink, Origin: i.Origin, StanzaGateways: i.StanzaGateways, AddressGateways: i.AddressGateways}
}

// SameOptions reports whether both have the same options of ours.
func (i Intent) SameOptions(o Intent) bool {
	return i.Mark == o.Mark && i.Marking == o.Marking && i.Gateways == o.Gateways && (i.Cgroups == nil) == (o.Cgroups == nil) &&
		slices.Equal(i.Devices, o.Devices) && slices.Equal(i.Cgroups, o.Cgroups) && slices.Equal(i.RotatePort, o.RotatePort) &&
		slices.Equal(i.Through, o.Through) && slices.Equal(i.Sources, o.Sources)
}

// Problem is an error in the configuration. Its text names the file, the
// stanza and the value.
type Problem struct {
	Text  string
	Marks []Mark // marks whose uplink it leaves undecided
}

func (p Problem) Error() string { return p.Text }

// Claim is a mark whose guards stand in the kernel, or that the second lock
// holds there.
type Claim struct {
	Mark   Mark
	Uplink string // where the route of its look-up leads to, or the one that the lock lets it leave by; "" without one
	Full   bool   // it is known not to be a configured mark, but that of a full tunnel
}

// Tunnel is a full tunnel: a WireGuard device with the mark F of the foreign
// rule `not fwmark F lookup T`, where T's default goes through the device.
// wg-quick makes such rules, and finds them by the device's mark to take them
// away.
type Tunnel struct {
	Device string
	Mark   Mark
}

// Pin is a mark in force: its guards exist, and what is listed carries it.
// Nothing is listed in two pins.
type Pin struct {
	Mark       Mark
	Uplink     string // "" where nobody can say: guards alone
	Devices    []string
	Cgroups    []string // as an Intent's, nil or empty
	RotatePort []string

	// Full says that the mark is not a configured one, but the F of a full
	// tunnel that is pinned to the uplink: the device keeps it, and it is never
	// taken off by us. It has no cgroups.
	Full bool

	// Kept says that the mark is held as it stands, because of an error in
	// the configuration, or for commands of `run` that outlive it: nothing of it
	// is taken over or given away.
	Kept bool
}

// Uplink is an uplink as found.
type Uplink struct {
	Name    string
	Present bool // the interface exists
	Up      bool // and is set up (IFF_UP), with or without carrier

	Addrs    []netip.Addr  // global, usable as a source, each on this uplink alone; sorted
	Address  [2]netip.Addr // by Family: that of the mark's table; invalid: none
	Twin     [2]bool       // by Family: that address's table is another uplink's or program's, so it is none of Addrs, and the mark has a table of its own
	Gateways [2]netip.Addr // by Family: that of Address. Invalid: none is known; unspecified: the link has none (no `via`)

	// OwnGateways are the gateways of those addresses that have another one.
	OwnGateways map[netip.Addr]netip.Addr

	Through []netip.Prefix // destinations that everybody reaches through it

	LinkMTU     [2]uint32 // by Family: what the link takes, bytes; 0: not known
	MTU, AdvMSS [2]uint32 // by Family: those of main's default through it; 0: not set
}

// GatewayOf returns the gateway of one of the uplink's addresses, as Gateways has
// them.
func (u Uplink) GatewayOf(addr netip.Addr) netip.Addr {
	if gw, own := u.OwnGateways[addr]; own {
		return gw
	}
	return u.Gateways[FamilyOf(addr)]
}

// Routable reports whether the uplink can have a table in the family: it is
// up, and where its default leads to is known.
func (u Uplink) Routable(f Family) bool { return u.Up && u.Gateways[f].IsValid() }

// Routed reports whether the uplink has a table in the family that marks are
// looked up in: it is routable, and has an address.
func (u Uplink) Routed(f Family) bool { return u.Routable(f) && u.Address[f].IsValid() }
