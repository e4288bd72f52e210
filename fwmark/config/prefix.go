package config

import (
	"fmt"
	"net/netip"
)

// The shortest prefixes that an uplink may claim, in bits. Shorter ones are a
// default in pieces, but for fc00::/7, which is all private.
const (
	shortestIPv4 = 8
	shortestIPv6 = 16
)

var (
	uniqueLocal = netip.MustParsePrefix("fc00::/7")
	linkLocal   = netip.MustParsePrefix("169.254.0.0/16")
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	classE      = netip.MustParsePrefix("240.0.0.0/4")
)

// parseThrough reads destinations that are reached through one uplink: those of
// unicast on other hosts. An address is a prefix of its whole length.
func parseThrough(s string) (netip.Prefix, error) {
	p, err := parsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, err
	case p.Addr().Is6() && p.Addr().IsLinkLocalUnicast():
		return netip.Prefix{}, fmt.Errorf("prefix %s is link-local: it is on each link", quote(s))
	}
	return p, nil
}

// parseSource reads a prefix of this host's own addresses.
func parseSource(s string) (netip.Prefix, error) {
	p, err := parsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, err
	case p.Addr().IsLinkLocalUnicast() || linkLocal.Overlaps(p):
		return netip.Prefix{}, fmt.Errorf("prefix %s is link-local: it is on each link", quote(s))
	}
	return p, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if addr, single := netip.ParseAddr(s); single == nil && addr.Zone() == "" {
		p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("prefix %s is none: write it as 198.51.100.0/24 or 2001:db8::/56", quote(s))
	}
	shortest := shortestIPv4
	if p.Addr().Is6() {
		shortest = shortestIPv6
	}
	switch masked := p.Masked(); {
	case p.Bits() < shortest && masked != uniqueLocal:
		return netip.Prefix{}, fmt.Errorf("prefix %s is too wide for one uplink: shorter than /%d", quote(s), shortest)
	case p != masked:
		return netip.Prefix{}, fmt.Errorf("prefix %s has bits behind its length: is it %s?", quote(s), masked)
	case p.Addr().IsLoopback() || p.Addr().IsMulticast() || thisNetwork.Overlaps(p) || classE.Overlaps(p) || p.Addr().IsUnspecified():
		return netip.Prefix{}, fmt.Errorf("prefix %s is none of unicast on a network", quote(s))
	}
	return p, nil
}
