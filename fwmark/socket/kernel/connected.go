package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/socket"
)

// Conntrack is what is asked of it: the mark of a connection between an address of this
// host and a remote one. known is false where it does not know the connection. An error
// is errors.ErrUnsupported where it cannot be asked.
type Conntrack interface {
	Mark(ctx context.Context, protocol uint8, local, remote netip.AddrPort) (mark uint32, known bool, err error)
}

// connection tells what conntrack has of the connection of a socket. It is not asked of raw
// sockets and those of ping: what they send is begun anew after seconds.
func (g *giver) connection(fd int) (socket.Connection, error) {
	protocol, ok, err := protocolOf(fd)
	if err != nil || !ok {
		return socket.Connection{}, err
	}
	local, remote, ok := endsOf(fd)
	if ok && g.conntrack != nil {
		mark, known, err := g.conntrack.Mark(g.ctx, protocol, local, remote)
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return socket.Connection{}, err
		}
		if known {
			return socket.Connection{Known: true, Mark: mark}, nil
		}
	}
	if protocol != unix.IPPROTO_TCP || !ok {
		return socket.Connection{}, nil
	}
	served, err := g.listens(local.Port())
	return socket.Connection{Served: served}, err
}

// protocolOf returns the protocol of a socket's packets, if it is one with ports. Connections
// of MPTCP are TCP.
func protocolOf(fd int) (protocol uint8, ok bool, err error) {
	number, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return 0, false, fmt.Errorf("ask a socket for its protocol: %w", err)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return 0, false, fmt.Errorf("ask a socket for its type: %w", err)
	}
	switch number {
	case unix.IPPROTO_MPTCP:
		number = unix.IPPROTO_TCP
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_UDPLITE, unix.IPPROTO_SCTP, unix.IPPROTO_DCCP:
	default:
		return 0, false, nil
	}
	return uint8(number), kind != unix.SOCK_RAW, nil
}

// endsOf returns the addresses of a connected socket, IPv4-mapped ones as IPv4. ok is
// false where it is only about to connect, or has ended meanwhile.
func endsOf(fd int) (local, remote netip.AddrPort, ok bool) {
	here, err := unix.Getsockname(fd)
	if err != nil {
		return local, remote, false
	}
	there, err := unix.Getpeername(fd)
	if err != nil {
		return local, remote, false
	}
	local, remote = addrPort(here), addrPort(there)
	return local, remote, local.IsValid() && remote.IsValid()
}

func addrPort(a unix.Sockaddr) netip.AddrPort {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// listens reports whether some socket of this thread's network namespace listens on a
// TCP port. The kernel gives no such port to a connection that leaves, so one that has
// it was accepted. Where the kernel does not tell, none does.
func (g *giver) listens(port uint16) (bool, error) {
	if g.listening == nil {
		g.listening = map[uint16]bool{}
		if ok, err := g.openDiag(); err != nil || !ok {
			return false, err
		}
		_, err := g.diag.list(1<<tcpListen, fwmark.Mark{}, func(l listed) bool {
			g.listening[binary.BigEndian.Uint16(l.id[0:2])] = true
			return false
		})
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EOPNOTSUPP) {
			g.listening = nil
			return false, fmt.Errorf("read listening TCP sockets: %w", err)
		}
	}
	return g.listening[port], nil
}
