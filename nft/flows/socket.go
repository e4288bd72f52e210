package flows

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// States of a TCP socket, net/tcp_states.h.
const (
	established = 1
	synRecv     = 3
	finWait1    = 4
	finWait2    = 5
	closeWait   = 8
	lastAck     = 9
	listen      = 10
	closing     = 11
)

// running are the states, as bits, of connections that conntrack must know:
//
//   - those that carry data, half-closed ones too;
//   - SYN_RECV, where the peer's next packet is one without SYN, which a
//     stateful firewall drops;
//   - those that have still to deliver what a process left them, and their FIN.
//
// Left out are
//
//   - SYN_SENT: its next packet is a SYN, so it is pinned then, and that is
//     better than to keep it on the wrong uplink for as long as it lives. One
//     whose answer is on its way just now is reset, and its process tries again;
//   - TIME_WAIT: no process gets anything of it, the kernel's answers belong to
//     no cgroup, and a busy server has more of them than conntrack has room.
const running = 1<<established | 1<<synRecv | 1<<finWait1 | 1<<finWait2 | 1<<closeWait | 1<<lastAck | 1<<closing

// socket is a TCP socket of this network namespace.
type socket struct {
	local, remote netip.AddrPort // IPv4 for IPv4-mapped ones
	state         uint8
	inode         uint32 // 0 where no process has it: closed by it, or not yet accepted
}

const (
	// requestSize is that of struct inet_diag_req_v2, linux/inet_diag.h.
	requestSize = 56
	// socketSize is that of struct inet_diag_msg; attributes follow.
	socketSize = 72
)

// encodeRequest asks for the TCP sockets of an address family, AF_INET or
// AF_INET6, in any of the states, which are bits.
func encodeRequest(family uint8, states uint32) []byte {
	b := make([]byte, requestSize)
	b[0], b[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], states)
	return b
}

var errShort = errors.New("message of the kernel is too short")

// decodeSocket reads struct inet_diag_msg. Ports and addresses are in network
// byte order there, the rest in the machine's.
func decodeSocket(b []byte) (socket, error) {
	if len(b) < socketSize {
		return socket{}, errShort
	}
	var size int
	switch b[0] {
	case unix.AF_INET:
		size = 4
	case unix.AF_INET6:
		size = 16
	default:
		return socket{}, fmt.Errorf("address family %d of a socket is neither IPv4 nor IPv6", b[0])
	}
	end := func(port, addr int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(b[addr : addr+size])
		return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(b[port:]))
	}
	return socket{
		local: end(4, 8), remote: end(6, 24),
		state: b[1], inode: binary.NativeEndian.Uint32(b[68:]),
	}, nil
}
