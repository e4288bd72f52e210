package lease

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
)

// parseOctetRoutes offers the gateways of default routes in option 121 (RFC 3442):
// unspecified where a default is on-link. Of several the first counts: the kernel
// refuses the others.
//
// dhclient shows the option as its bytes in decimal. A route is its prefix
// length (0 to 32), the octets of its destination that the length covers (0 to
// 4 of them), and its router's four.
func parseOctetRoutes(s string, r *routers) error {
	octets, err := parseOctets(s)
	if err != nil {
		return err
	}
	if len(octets) == 0 {
		return errors.New("has no route")
	}
	for len(octets) > 0 {
		length := int(octets[0])
		if length > 32 {
			return fmt.Errorf("has a prefix length of %d, over 32", length)
		}
		router := 1 + (length+7)/8
		if len(octets) < router+4 {
			return fmt.Errorf("ends in the middle of a route to a /%d", length)
		}
		r.route(length, netip.AddrFrom4([4]byte(octets[router:router+4])))
		octets = octets[router+4:]
	}
	return nil
}

// parseTextRoutes does so for dhcpcd and udhcpc, which show the option as pairs
// of words: 0.0.0.0/0 1.2.3.1.
func parseTextRoutes(s string, r *routers) error {
	list := fields(s)
	if len(list) == 0 {
		return errors.New("has no route")
	}
	if len(list)%2 != 0 {
		return fmt.Errorf("ends in the middle of a route to %s", quoteWord(list[len(list)-1]))
	}
	for i := 0; i < len(list); i += 2 {
		dst, err := netip.ParsePrefix(list[i])
		if err != nil || !dst.Addr().Is4() {
			return fmt.Errorf("has %s where a destination such as 10.0.0.0/8 belongs", quoteWord(list[i]))
		}
		router, err := parseAddress(list[i+1])
		if err != nil {
			return fmt.Errorf("has %s where a router's address belongs", quoteWord(list[i+1]))
		}
		r.route(dst.Bits(), router)
	}
	return nil
}

// route takes the router of a route by its destination's length.
func (r *routers) route(length int, addr netip.Addr) {
	if (addr.IsUnspecified() || r.check(addr, nil, addr.String())) && length == 0 {
		r.offer(addr)
	}
}

func parseOctets(s string) ([]byte, error) {
	list := fields(s)
	octets := make([]byte, len(list))
	for i, word := range list {
		n, err := strconv.ParseUint(word, 10, 8)
		if err != nil || len(word) > 1 && word[0] == '0' {
			return nil, fmt.Errorf("has %s where a number from 0 to 255 belongs", quoteWord(word))
		}
		octets[i] = byte(n)
	}
	return octets, nil
}
