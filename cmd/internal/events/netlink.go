package events

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/nlsock"
	"wg-multihome/nft"
	"wg-multihome/policy"
	"wg-multihome/policy/kernel"
)

// datagramSize is more than the kernel puts into one message to a group: that of a
// link with its many attributes is the longest.
const datagramSize = 64 << 10

// read only reads, so that the kernel's queue stays short. take is called with mu
// held for each message.
//
// It goes through the library's socket, and reads by itself: the library looks
// into each datagram before it reads it, and makes room for each anew.
func (s *Source) read(c *netlink.Conn, take func(m nlsock.Message, port uint32)) {
	defer s.wait.Done()
	raw, err := c.SyscallConn()
	buffer := make([]byte, datagramSize)
	for err == nil && !s.closed() {
		var n int
		var from unix.Sockaddr
		var got error
		err = raw.Read(func(fd uintptr) bool {
			n, from, got = unix.Recvfrom(int(fd), buffer, unix.MSG_DONTWAIT)
			return !errors.Is(got, unix.EAGAIN) && !errors.Is(got, unix.EINTR)
		})
		sender, _ := from.(*unix.SockaddrNetlink)
		switch {
		case err != nil:
		case errors.Is(got, unix.ENOBUFS):
			s.overrun()
		case got != nil:
			err = got
		case sender == nil || sender.Pid != 0: // not the kernel
		default:
			s.takeAll(buffer[:n], take)
		}
	}
	if !s.closed() {
		s.fail(fmt.Errorf("read the kernel's events: %w", err))
	}
}

func (s *Source) takeAll(datagram []byte, take func(m nlsock.Message, port uint32)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(datagram) > 0 {
		port := uint32(0)
		if len(datagram) >= unix.NLMSG_HDRLEN {
			port = binary.NativeEndian.Uint32(datagram[12:])
		}
		m, rest, err := nlsock.Cut(datagram)
		if err != nil {
			s.add(stale[Link] | stale[Table]) // whatever it was
			return
		}
		take(m, port)
		datagram = rest
	}
}

// routing takes a message of rtnetlink's.
func (s *Source) routing(m nlsock.Message, port uint32) {
	n, err := kernel.ReadNotice(m.Kind, m.Body)
	if err != nil {
		s.add(stale[Link])
		return
	}
	if !s.filter.matters(n) {
		return
	}
	c := cause(n)
	if c.Kind == Rule && c.Protocol == policy.Protocol && !c.Gone {
		port = 0 // ours: no look at /proc
	}
	c.Port = port
	s.hear(c)
}

// Messages of nfnetlink: struct nfgenmsg, and the first attribute of nearly all
// of nf_tables', the name of the table (linux/netfilter/nf_tables.h).
const (
	sizeofNfgenmsg = 4
	tableAttribute = 1
	newGeneration  = 15 // ends a transaction, and tells whose it was

	sizeofAttribute = 4
	attributeMask   = 0x3fff
)

// table takes a message of nf_tables': those about our table.
func (s *Source) table(m nlsock.Message, port uint32) {
	if m.Kind>>8 != unix.NFNL_SUBSYS_NFTABLES || m.Kind&0xff == newGeneration || !ofOurTable(m.Body) {
		return
	}
	kind := m.Kind & 0xff
	if n := len(s.heard.Causes); n > 0 && s.heard.Causes[n-1].Kind == Table && s.heard.Causes[n-1].Port == port {
		s.heard.Changes++ // of one transaction
		s.add(stale[Table])
		return
	}
	s.hear(Cause{Kind: Table, Gone: gone[kind], Text: "table inet " + nft.Table, Port: port})
}

// gone are the kinds of message that tell of something deleted.
var gone = map[uint16]bool{
	unix.NFT_MSG_DELTABLE: true, unix.NFT_MSG_DELCHAIN: true, unix.NFT_MSG_DELRULE: true,
	unix.NFT_MSG_DELSET: true, unix.NFT_MSG_DELSETELEM: true, unix.NFT_MSG_DELOBJ: true,
}

// ofOurTable reports whether a message names our table.
func ofOurTable(body []byte) bool {
	if len(body) < sizeofNfgenmsg+sizeofAttribute || body[0] != unix.NFPROTO_INET {
		return false
	}
	a := body[sizeofNfgenmsg:]
	length := int(binary.NativeEndian.Uint16(a))
	kind := binary.NativeEndian.Uint16(a[2:]) & attributeMask
	return kind == tableAttribute && length >= sizeofAttribute && length <= len(a) && unix.ByteSliceToString(a[sizeofAttribute:length]) == nft.Table
}
