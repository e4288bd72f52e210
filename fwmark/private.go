package fwmark

import (
	"net/netip"
	"slices"
)

// PrivatePrefixes are those that nobody reaches by the internet: of private
// networks, of providers' NAT and of link-local addresses (RFC 1918, 6598, 3927,
// 4193). What leads to them leads to a LAN, a container network or a VPN.
var PrivatePrefixes = [...]netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("fc00::/7"),
}

// IsPrivate reports whether a prefix lies wholly in private space.
func IsPrivate(p netip.Prefix) bool {
	return slices.ContainsFunc(PrivatePrefixes[:], func(private netip.Prefix) bool {
		return private.Bits() <= p.Bits() && private.Contains(p.Addr())
	})
}
