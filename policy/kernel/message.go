package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"

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

// nextAttribute cuts the first attribute off; ok is false where there is none.
func nextAttribute(b []byte) (a attribute, rest []byte, ok bool, err error) {
	if len(b) < unix.SizeofRtAttr {
		return attribute{}, nil, false, nil
	}
	length := int(binary.NativeEndian.Uint16(b))
	if length < unix.SizeofRtAttr || length > len(b) {
		return attribute{}, nil, false, fmt.Errorf("attribute of %d bytes, %d are left", length, len(b))
	}
	a = attribute{binary.NativeEndian.Uint16(b[2:]) & typeMask, b[unix.SizeofRtAttr:length]}
	return a, b[min(len(b), aligned(length)):], true, nil
}

// eachAttribute hands the attributes of a message behind its header to read,
// and reports whether it could read all of them.
func eachAttribute(b []byte, read func(attribute) bool) (all bool, err error) {
	all = true
	for {
		a, rest, ok, err := nextAttribute(b)
		if err != nil || !ok {
			return all, err
		}
		all = read(a) && all
		b = rest
	}
}

func aligned(length int) int { return (length + unix.RTA_ALIGNTO - 1) &^ (unix.RTA_ALIGNTO - 1) }

// appendMessage appends a request of struct nlmsghdr and a body.
func appendMessage(b []byte, kind, flags uint16, sequence uint32, body []byte) []byte {
	begin := len(b)
	b = append(beginMessage(b, kind, flags, sequence), body...)
	return endMessage(b, begin)
}

func beginMessage(b []byte, kind, flags uint16, sequence uint32) []byte {
	b = binary.NativeEndian.AppendUint32(b, 0) // its length, when that is known
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = binary.NativeEndian.AppendUint32(b, sequence)
	return binary.NativeEndian.AppendUint32(b, 0) // from any socket
}

// endMessage writes the length of the message that begins there.
func endMessage(b []byte, begin int) []byte {
	binary.NativeEndian.PutUint32(b[begin:], uint32(len(b)-begin))
	return pad(b, len(b)-begin)
}

// askAnswer has the kernel answer a request in any case.
func askAnswer(request []byte) {
	flags := request[6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
}

// appendAttribute appends an attribute of a few bytes, which never are too many
// for its length.
func appendAttribute(b []byte, kind uint16, value ...byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return pad(append(b, value...), len(value))
}

func appendNumber(b []byte, kind uint16, n uint32) []byte {
	var value [4]byte
	binary.NativeEndian.PutUint32(value[:], n)
	return appendAttribute(b, kind, value[:]...)
}

// appendName appends a device's name, which ends with a zero.
func appendName(b []byte, kind uint16, name string) []byte {
	return appendAttribute(b, kind, append([]byte(name), 0)...)
}

func appendAddress(b []byte, kind uint16, a netip.Addr) []byte {
	if a.Is4() {
		value := a.As4()
		return appendAttribute(b, kind, value[:]...)
	}
	value := a.As16()
	return appendAttribute(b, kind, value[:]...)
}

// pad fills up what ends with something of that length.
func pad(b []byte, length int) []byte {
	for range aligned(length) - length {
		b = append(b, 0)
	}
	return b
}
