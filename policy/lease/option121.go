package lease

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
)

// parseOption121 returns the gateway of the default route in option 121 (RFC
// 3442): unspecified where that default is on-link, invalid where there is no
// default. Of several defaults the first counts: the kernel refuses the others.
//
// dhclient shows the option as its bytes in decimal. A route is its prefix
// length (0 to 32), the octets of its destination that the length covers (0 to
// 4 of them), and its router's four.
func parseOption121(s string) (netip.Addr, error) {
	octets, err := parseOctets(s)
	if err != nil {
		return netip.Addr{}, err
	}
	if len(octets) == 0 {
		return netip.Addr{}, errors.New("has no route")
	}
	var gateway netip.Addr
	for len(octets) > 0 {
		length := int(octets[0])
		if length > 32 {
			return netip.Addr{}, fmt.Errorf("has a prefix length of %d, over 32", length)
		}
		router := 1 + (length+7)/8
		if len(octets) < router+4 {
			return netip.Addr{}, fmt.Errorf("ends in the middle of a route to a /%d", length)
		}
		addr := netip.AddrFrom4([4]byte(octets[router : router+4]))
		octets = octets[router+4:]
		if !addr.IsUnspecified() {
			if err := usable(addr); err != nil {
				return netip.Addr{}, fmt.Errorf("has a router that %w: %s", err, addr)
			}
		}
		if length == 0 && !gateway.IsValid() {
			gateway = addr
		}
	}
	return gateway, nil
}

func parseOctets(s string) ([]byte, error) {
	list := words(s)
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
