package policy

import (
	"encoding/binary"
	"hash/fnv"
	"net/netip"

	"wg-multihome/fwmark"
)

// The routing tables of uplinks' addresses: each address has one of its own,
// and its number follows from the address alone. An uplink whose address's table is
// another uplink's, or another program's, has a table for its mark, by its name.

// ipv6Tables is the lowest table number of an IPv6 address. An IPv4 address of
// that number would be class E, which is refused as an uplink's address.
const ipv6Tables = 0xE0000000

// TableOf returns the number of an uplink address's routing table: an IPv4
// address as a 32-bit integer, 1.2.3.4 → 16909060; of an IPv6 address 29 bits
// of its FNV-1a hash, above the number of every IPv4 one.
func TableOf(addr netip.Addr) uint32 {
	if addr.Is4() {
		b := addr.As4()
		return binary.BigEndian.Uint32(b[:])
	}
	b := addr.As16()
	return hashedTable(b[:])
}

// twinTable returns the number of the table of an uplink's mark where the table of
// its address is another's.
func twinTable(uplink string) uint32 { return hashedTable([]byte("twin " + uplink)) }

func hashedTable(b []byte) uint32 {
	h := fnv.New32a()
	h.Write(b) // hash.Hash: never returns an error
	return ipv6Tables | h.Sum32()>>3
}

// MarkTable returns the number of the table that an uplink's mark looks up, where
// the uplink is routed in the family.
func MarkTable(u fwmark.Uplink, f fwmark.Family) uint32 {
	if u.Twin[f] {
		return twinTable(u.Name)
	}
	return TableOf(u.Address[f])
}

var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	classE      = netip.MustParsePrefix("240.0.0.0/4")
)

// usable reports whether addr can be an uplink's address. 0/8, 127/8,
// multicast, class E and link-local addresses can't (RFC 6890; their table
// numbers would be the kernel's own tables or none at all).
func usable(addr netip.Addr) bool {
	return addr.IsValid() && addr.Zone() == "" && !addr.IsUnspecified() && !addr.IsLoopback() && !addr.IsMulticast() &&
		!addr.IsLinkLocalUnicast() && !addr.Is4In6() && !thisNetwork.Contains(addr) && !classE.Contains(addr)
}
