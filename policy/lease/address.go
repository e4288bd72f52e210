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

// parseHost reads one IPv4 address that a host can have, in none of refusedNets.
func parseHost(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, errMissing
	}
	addr, err := parseAddress(s)
	if err != nil {
		return netip.Addr{}, err
	}
	return addr, usable(addr)
}

// parseAddress reads four decimal numbers without leading zeros.
func parseAddress(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil || !addr.Is4() {
		return netip.Addr{}, errNotPlain
	}
	return addr, nil
}

var linkLocal = netip.MustParsePrefix("169.254.0.0/16") // RFC 3927

// refusedNets are IPv4 addresses that no uplink has, and but for link-local ones
// no router of one.
var refusedNets = [...]struct {
	net  netip.Prefix
	what string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "in 0.0.0.0/8"},         // RFC 1122, 3.2.1.3
	{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"}, // RFC 1122, 3.2.1.3
	{linkLocal, "a link-local address"},
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

// routers takes the routers of a lease one by one. The first good one is the
// gateway, as in the original shell script; bad ones are left out.
type routers struct {
	leased  netip.Addr
	gateway netip.Addr
	bad     []string // the first of those that were left out, and why
}

// shownRouters is how many bad routers are shown at the most.
const shownRouters = 3

// check reports whether an address can be a router. A link-local one can
// (169.254.1.1, of clouds). The leased address can not: main's default says more
// of such a link.
func (r *routers) check(addr netip.Addr, err error, word string) bool {
	switch {
	case err != nil:
	case addr == r.leased:
		err = errors.New("is the leased address itself")
	case !linkLocal.Contains(addr):
		err = usable(addr)
	}
	if err != nil && len(r.bad) < shownRouters {
		r.bad = append(r.bad, fmt.Sprintf("a router that %s: %s", err, word))
	}
	return err == nil
}

// offer takes a router, unless there is a gateway.
func (r *routers) offer(addr netip.Addr) {
	if !r.gateway.IsValid() {
		r.gateway = addr
	}
}

// parseRouters reads the router option (3).
func parseRouters(s string, r *routers) error {
	for _, word := range fields(s) {
		addr, err := parseAddress(word)
		if r.check(addr, err, quoteWord(word)) {
			r.offer(addr)
		}
	}
	return nil
}

// fields splits at blanks only: a line break or other space in a list was not
// written by a client, and is refused with the word that it stands in.
func fields(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' })
}
