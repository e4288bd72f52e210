package kernel

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// attribute is one of struct rtattr, rtnetlink(7).
type attribute struct {
	kind  uint16
	value []byte
}

// number returns a value of 32 bits in the machine's byte order.
func (a attribute) number() (n uint32, ok bool) {
	if len(a.value) != 4 {
		return 0, false
	}
	return binary.NativeEndian.Uint32(a.value), true
}

// typeMask leaves the type: the two bits above say that attributes are nested,
// and whose byte order the value has (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
const typeMask = 0x3fff

// attributes splits a message behind its header. It is ours because nl's reads
// behind the end where a length is too short.
func attributes(b []byte) ([]attribute, error) {
	var list []attribute
	for len(b) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			return nil, fmt.Errorf("attribute of %d bytes, %d are left", length, len(b))
		}
		list = append(list, attribute{binary.NativeEndian.Uint16(b[2:]) & typeMask, b[unix.SizeofRtAttr:length]})
		b = b[min(len(b), aligned(length)):]
	}
	return list, nil
}

func aligned(length int) int { return (length + unix.RTA_ALIGNTO - 1) &^ (unix.RTA_ALIGNTO - 1) }
