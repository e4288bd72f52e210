package lease

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
)

var (
	errMissing  = errors.New("is not set, in a lease")
	errNotPlain = errors.New("is not a plain IPv4 address")
)

// parseHost reads one IPv4 address that a host or a router can have: four
// decimal numbers without leading zeros, and in none of refusedNets.
func parseHost(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, errMissing
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || !addr.Is4() {
		return netip.Addr{}, errNotPlain
	}
	return addr, usable(addr)
}

// refusedNets are IPv4 addresses that no uplink and no router of one has.
var refusedNets = [...]struct {
	net  netip.Prefix
	what string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "in 0.0.0.0/8"},                   // RFC 1122, 3.2.1.3
	{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"},           // RFC 1122, 3.2.1.3
	{netip.MustParsePrefix("169.254.0.0/16"), "a link-local address"},      // RFC 3927
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},          // RFC 5771
	{netip.MustParsePrefix("255.255.255.255/32"), "the broadcast address"}, // RFC 919
	{netip.MustParsePrefix("240.0.0.0/4"), "in the reserved 240.0.0.0/4"},  // RFC 1112, class E
}

func usable(addr netip.Addr) error {
	for _, r := range refusedNets {
		if r.net.Contains(addr) {
			return fmt.Errorf("is %s", r.what)
		}
	}
	return nil
}

// parseMask reads a netmask and returns its length, 0 to 32. Without a mask it
// is 32: dhclient-script then gives `ip addr add` a bare address.
func parseMask(s string) (int, error) {
	if s == "" {
		return 32, nil
	}
	mask, err := netip.ParseAddr(s)
	if err != nil || !mask.Is4() {
		return 0, errors.New("is not a netmask such as 255.255.255.0")
	}
	b := mask.As4()
	m := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	ones := bits.LeadingZeros32(^m)
	if bits.OnesCount32(m) != ones {
		return 0, errors.New("is a netmask with gaps")
	}
	return ones, nil
}

// parseRouters reads the router option (3). The first router counts, as in the
// original shell script; but a list with a bad one in it is not trusted at all.
func parseRouters(s string) (netip.Addr, error) {
	var first netip.Addr
	for _, word := range words(s) {
		addr, err := parseHost(word)
		if err != nil {
			return netip.Addr{}, fmt.Errorf("has a router that %w: %s", err, quoteWord(word))
		}
		if !first.IsValid() {
			first = addr
		}
	}
	return first, nil
}

// words splits at blanks only: a line break or other space in a list was not
// written by dhclient, and is refused with the word that it stands in.
func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' })
}
