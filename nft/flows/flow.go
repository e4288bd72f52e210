package flows

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Bits of an entry's status, linux/netfilter/nf_conntrack_common.h. Without
// the first it is a connection that was never answered, and its next packet is
// new; without the second it goes first when conntrack is full; the third
// stands in every entry, and the kernel refuses one that denies it.
const (
	seenReply = 1 << 1
	assured   = 1 << 2
	confirmed = 1 << 3
)

// beLiberal has packets outside the window taken for valid: an entry that was
// not there at the handshake knows nothing of window scaling
// (linux/netfilter/nf_conntrack_tcp.h). The kernel sets it, both ways, on
// connections that it takes up in their midst.
const beLiberal = 1 << 3

// The kernel's own limits for a connection that opens and for one that closes,
// in seconds. They hold until the next packet.
const (
	openTime  = 60
	closeTime = 120
)

// flow is a connection as conntrack is to have it.
type flow struct {
	from, to netip.AddrPort // who opened it, and whom
	state    uint8          // TCP_CONNTRACK_…
	status   uint32
	timeout  uint32 // in seconds, from now or the last packet
}

func (f flow) String() string { return fmt.Sprintf("%s > %s", f.from, f.to) }

// ports are those that this host listens on.
type ports map[uint16]bool

// flowOf returns what conntrack is to have for a socket, and false where that
// is nothing. idleTime is how long conntrack keeps an established connection
// without packets, in seconds.
//
// A connection to a port that this host listens on was opened by the peer. The
// kernel gives no such port to a connection that leaves; where a program did,
// or stopped listening, from and to are exchanged, which costs nothing: an
// established connection is the same either way.
func flowOf(s socket, listening ports, idleTime uint32) (flow, bool) {
	f := flow{
		from: s.local, to: s.remote, state: nl.TCP_CONNTRACK_ESTABLISHED,
		status: seenReply | assured | confirmed, timeout: idleTime,
	}
	if s.state == synRecv || listening[s.local.Port()] {
		f.from, f.to = f.to, f.from
	}
	held := s.inode != 0
	switch {
	case s.state == established, s.state == closeWait:
	case held && (s.state == finWait1 || s.state == finWait2):
		// Half-closed: its process may read on for hours. Conntrack's state
		// would be CLOSE_WAIT, which it forgets after a minute.
	case s.state == finWait1, s.state == closing, s.state == lastAck:
		// Not for days: a new connection between the same ports would be
		// taken for this one.
		f.state, f.timeout = nl.TCP_CONNTRACK_FIN_WAIT, closeTime
	case s.state == synRecv:
		f.state, f.timeout, f.status = nl.TCP_CONNTRACK_SYN_RECV, openTime, seenReply|confirmed
	default: // an orphan in FIN_WAIT2 too, which is much like TIME_WAIT
		return flow{}, false
	}
	return f, f.from.Addr().Is4() == f.to.Addr().Is4()
}

// encodeFlow returns the message, behind nlmsghdr, that makes an entry. It
// names no mark and no zone.
func encodeFlow(f flow) ([]byte, error) {
	e := netlink.NewAttributeEncoder()
	e.ByteOrder = binary.BigEndian
	e.Nested(nl.CTA_TUPLE_ORIG, tuple(unix.IPPROTO_TCP, f.from, f.to))
	e.Nested(nl.CTA_TUPLE_REPLY, tuple(unix.IPPROTO_TCP, f.to, f.from))
	e.Uint32(nl.CTA_STATUS, f.status)
	e.Uint32(nl.CTA_TIMEOUT, f.timeout)
	e.Nested(nl.CTA_PROTOINFO, func(e *netlink.AttributeEncoder) error {
		e.Nested(nl.CTA_PROTOINFO_TCP, func(e *netlink.AttributeEncoder) error {
			e.Uint8(nl.CTA_PROTOINFO_TCP_STATE, f.state)
			// struct nf_ct_tcp_flags: flags, and the mask of what is set.
			e.Bytes(nl.CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, []byte{beLiberal, beLiberal})
			e.Bytes(nl.CTA_PROTOINFO_TCP_FLAGS_REPLY, []byte{beLiberal, beLiberal})
			return nil
		})
		return nil
	})
	attrs, err := e.Encode()
	if err != nil {
		return nil, err
	}
	return append(nfgenmsg(f.from.Addr()), attrs...), nil
}

// nfgenmsg is struct nfgenmsg, linux/netfilter/nfnetlink.h: the address
// family, a version that is 0, a number that nobody needs here.
func nfgenmsg(a netip.Addr) []byte {
	family := uint8(unix.AF_INET6)
	if a.Is4() {
		family = unix.AF_INET
	}
	return []byte{family, nl.NFNETLINK_V0, 0, 0}
}

// tuple encodes one direction of a connection of a protocol that has ports.
func tuple(protocol uint8, src, dst netip.AddrPort) func(*netlink.AttributeEncoder) error {
	return func(e *netlink.AttributeEncoder) error {
		e.Nested(nl.CTA_TUPLE_IP, func(e *netlink.AttributeEncoder) error {
			srcKind, dstKind := uint16(nl.CTA_IP_V6_SRC), uint16(nl.CTA_IP_V6_DST)
			if src.Addr().Is4() {
				srcKind, dstKind = nl.CTA_IP_V4_SRC, nl.CTA_IP_V4_DST
			}
			e.Bytes(srcKind, src.Addr().AsSlice())
			e.Bytes(dstKind, dst.Addr().AsSlice())
			return nil
		})
		e.Nested(nl.CTA_TUPLE_PROTO, func(e *netlink.AttributeEncoder) error {
			e.Uint8(nl.CTA_PROTO_NUM, protocol)
			e.Uint16(nl.CTA_PROTO_SRC_PORT, src.Port())
			e.Uint16(nl.CTA_PROTO_DST_PORT, dst.Port())
			return nil
		})
		return nil
	}
}
