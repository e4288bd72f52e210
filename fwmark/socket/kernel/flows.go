package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/nlsock"
)

// A connection of MPTCP has a TCP connection for each path, a flow. A mark that its
// socket is given all its flows get. But some have another one than the socket:
//
//   - those of a connection that the program has closed keep what they had. They stay
//     ESTABLISHED until what it had to send has arrived, and the kernel may list them
//     with the number that its file had;
//   - one that the kernel joins to a connection that is older than the pin gets the mark
//     when it connects, and the socket has none;
//   - those of a server have none, and the socket has its listener's.

// flowStates are those in which a flow may send, as bits: ESTABLISHED, SYN_SENT,
// FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING.
const flowStates = 1<<1 | 1<<2 | 1<<4 | 1<<5 | 1<<8 | 1<<9 | 1<<11

const ulpInfoMPTCP = 3 // INET_ULP_INFO_MPTCP, linux/inet_diag.h

// flows returns the flows with a mark, but for those that closed returns.
func (d *diag) flows(m fwmark.Mark) ([]closed, error) {
	return d.list(flowStates, m, func(l listed) bool {
		return !l.isClosed() && attribute(attribute(l.attributes, ulpInfo), ulpInfoMPTCP) != nil
	})
}

// accepted reports whether a connection is one of MPTCP that a server has accepted: its
// socket has a mark, and its first flow another one or none.
func (g *giver) accepted(fd int, mark uint32) (bool, error) {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return false, fmt.Errorf("ask a socket for its protocol: %w", err)
	}
	if protocol != unix.IPPROTO_MPTCP {
		return false, nil
	}
	if ok, err := g.openDiag(); err != nil || !ok {
		return false, err
	}
	flow, ok, err := g.diag.flowMark(fd)
	if err != nil {
		return false, fmt.Errorf("ask for the mark of a flow of MPTCP: %w", err)
	}
	return ok && flow != mark, nil
}

// openDiag opens sock_diag at its first use. It is false where the kernel has none.
func (g *giver) openDiag() (bool, error) {
	if g.diag != nil {
		return true, nil
	}
	s, err := nlsock.Open(unix.NETLINK_SOCK_DIAG)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open sock_diag: %w", err)
	}
	g.diag = &diag{Socket: s, ctx: g.ctx}
	return true, nil
}

func (g *giver) close() {
	if g.diag != nil {
		g.diag.Close()
	}
}

// flowMark returns the mark of the first flow of an MPTCP connection in this thread's
// network namespace. ok is false where it has ended, or the kernel does not tell.
func (d *diag) flowMark(fd int) (mark uint32, ok bool, err error) {
	family, id, is := idOf(fd)
	if !is { // it has ended meanwhile
		return 0, false, nil
	}
	err = d.ask(unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_ACK, request(family, 0, id), func(b []byte) error {
		if len(b) < messageSize {
			return nlsock.ErrShort
		}
		if value := attribute(b[messageSize:], markOfSocket); len(value) == 4 {
			mark, ok = binary.NativeEndian.Uint32(value), true
		}
		return nil
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return 0, false, nil
	}
	return mark, ok, err
}

// idOf returns the struct inet_diag_sockid of a connection: ports, addresses, a device,
// and the kernel's number of it, which is not asked for.
func idOf(fd int) (family uint8, id [48]byte, ok bool) {
	local, err := unix.Getsockname(fd)
	if err != nil {
		return 0, id, false
	}
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return 0, id, false
	}
	put := func(a unix.Sockaddr, port, addr []byte) {
		switch a := a.(type) {
		case *unix.SockaddrInet4:
			family = unix.AF_INET
			binary.BigEndian.PutUint16(port, uint16(a.Port))
			copy(addr, a.Addr[:])
		case *unix.SockaddrInet6:
			family = unix.AF_INET6
			binary.BigEndian.PutUint16(port, uint16(a.Port))
			copy(addr, a.Addr[:])
		}
	}
	put(local, id[0:2], id[4:20])
	put(peer, id[2:4], id[20:36])
	binary.NativeEndian.PutUint64(id[40:], noCookie)
	return family, id, family != 0
}

const noCookie = 1<<64 - 1 // INET_DIAG_NOCOOKIE, twice
