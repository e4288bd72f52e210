package fwmark

import "net/netip"

// Family is an address family. Its value is an index into the pairs that hold
// one thing per family, such as Uplink.Gateways.
type Family int

// The two families that the kernel has policy rules for.
const (
	IPv4 Family = iota
	IPv6
)

// Families lists both, in the order in which they are worked on.
var Families = [...]Family{IPv4, IPv6}

// FamilyOf returns the family of addr, which must be valid. An IPv4-mapped
// IPv6 address is an IPv6 address here, as it is to the kernel.
func FamilyOf(addr netip.Addr) Family {
	if addr.Is4() {
		return IPv4
	}
	return IPv6
}

// String returns "4" or "6", as in the text of a step.
func (f Family) String() string {
	if f == IPv4 {
		return "4"
	}
	return "6"
}

// Bits returns the length of the family's addresses in bits, 32 or 128.
func (f Family) Bits() int {
	if f == IPv4 {
		return 32
	}
	return 128
}

// Unspecified returns 0.0.0.0 or ::.
func (f Family) Unspecified() netip.Addr {
	if f == IPv4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
