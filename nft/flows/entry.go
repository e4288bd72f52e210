package flows

import (
	"encoding/binary"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// entry is what conntrack has of a connection. Addresses of IPv4 are IPv4.
type entry struct {
	protocol             uint8
	from, to             netip.AddrPort // as it was begun
	answerFrom, answerTo netip.AddrPort // others than to and from where it is translated
	mark                 uint32

	name []byte // a request's body that names it, and no later entry
}

// Attributes of an entry that nl has not, linux/netfilter/nfnetlink_conntrack.h.
const (
	entryID   = 12 // CTA_ID
	entryZone = 18 // CTA_ZONE
)

// nfgenmsgSize is that of struct nfgenmsg.
const nfgenmsgSize = 4

// decodeEntry reads the message of an entry, which it does not keep.
func decodeEntry(b []byte) (e entry, err error) {
	if len(b) < nfgenmsgSize {
		return e, errShort
	}
	e.name = append(e.name, b[:nfgenmsgSize]...)
	err = eachAttribute(b[nfgenmsgSize:], func(kind uint16, whole, value []byte) error {
		var err error
		switch kind {
		case nl.CTA_TUPLE_ORIG:
			e.from, e.to, e.protocol, err = readTuple(value)
		case nl.CTA_TUPLE_REPLY:
			e.answerFrom, e.answerTo, _, err = readTuple(value)
		case nl.CTA_MARK:
			if len(value) < 4 {
				return errShort
			}
			e.mark = binary.BigEndian.Uint32(value)
		}
		if kind == nl.CTA_TUPLE_ORIG || kind == entryID || kind == entryZone {
			e.name = append(e.name, whole...)
		}
		return err
	})
	return e, err
}

// readTuple reads one direction of a connection.
func readTuple(b []byte) (from, to netip.AddrPort, protocol uint8, err error) {
	var addresses [2]netip.Addr
	var ports [2]uint16
	err = eachAttribute(b, func(part uint16, _, value []byte) error {
		return eachAttribute(value, func(kind uint16, _, value []byte) error {
			switch {
			case part == nl.CTA_TUPLE_IP:
				a, _ := netip.AddrFromSlice(value)
				switch kind {
				case nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC:
					addresses[0] = a
				case nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST:
					addresses[1] = a
				}
			case part == nl.CTA_TUPLE_PROTO && kind == nl.CTA_PROTO_NUM && len(value) > 0:
				protocol = value[0]
			case part == nl.CTA_TUPLE_PROTO && kind == nl.CTA_PROTO_SRC_PORT && len(value) >= 2:
				ports[0] = binary.BigEndian.Uint16(value)
			case part == nl.CTA_TUPLE_PROTO && kind == nl.CTA_PROTO_DST_PORT && len(value) >= 2:
				ports[1] = binary.BigEndian.Uint16(value)
			}
			return nil
		})
	})
	return netip.AddrPortFrom(addresses[0], ports[0]), netip.AddrPortFrom(addresses[1], ports[1]), protocol, err
}

// eachAttribute hands on each attribute: whole is with its header and padding.
func eachAttribute(b []byte, read func(kind uint16, whole, value []byte) error) error {
	for len(b) >= unix.NLA_HDRLEN {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.NLA_HDRLEN || length > len(b) {
			return errShort
		}
		aligned := min((length+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b))
		kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		if err := read(kind, b[:aligned], b[unix.NLA_HDRLEN:length]); err != nil {
			return err
		}
		b = b[aligned:]
	}
	return nil
}
