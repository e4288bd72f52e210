package flows

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
)

// Pinned tells what is to be known of connections that have no mark.
type Pinned struct {
	Bits    uint32          // all bits of the marks that connections get
	Cgroups map[uint64]bool // ids of the cgroups that get them

	// Asked is what others had begun before conntrack could take an answer for a
	// question, as Asked returned it; nil: all that they have begun, they have. With
	// Lost that was known to a run that was killed, or could not be read: what a pinned
	// socket is connected to counts as asked by that socket.
	Asked map[Ends]bool
	Lost  bool
}

// Ends are those of UDP between this host and another one, which nobody translates.
type Ends struct{ Local, Remote netip.AddrPort } // IPv4 is never mapped

// UDPEntry is what conntrack knows of such UDP.
type UDPEntry struct {
	Ends

	// Guessed says that it is not known who asked: to conntrack the other host did, and
	// the socket is not connected, or what was met before that is Lost.
	Guessed bool

	ours bool   // this host has begun it
	mark uint32 // of the connection
	name []byte // a request's body that names the entry, and no later one
}

// Asked returns the UDP that others have begun, by what conntrack knows. It is called
// before conntrack is turned on for services: of a flow that runs, what conntrack meets
// first after that may be an answer, and would count as begun by the other host. It
// takes CAP_NET_ADMIN, and 10 s at most.
func (c *Client) Asked(ctx context.Context) (map[Ends]bool, error) {
	list, err := c.udpEntries(ctx, fwmark.Mark{}, func(e UDPEntry) bool { return !e.ours })
	if err != nil {
		return nil, err
	}
	asked := make(map[Ends]bool, len(list))
	for _, e := range list {
		asked[e.Ends] = true
	}
	return asked, nil
}

// Unmarked returns UDP that this host sent without a mark, and which no socket has any
// more, or one of a pinned cgroup; and what such a socket is asked that was not asked
// before. It is called once the chain that marks has come.
//
// Such entries are made where the chain is missing for a while, as after `nft flush
// ruleset`: conntrack goes on for some milliseconds, or for as long as others want it.
// It remembers them for half a minute, and a new socket with the same addresses and
// ports would follow what it remembers. TCP needs nothing of that: a SYN begins a
// connection anew. Nobody waits for an answer to a socket that is gone, so no
// firewall misses such an entry.
//
// It takes CAP_NET_ADMIN, and 10 s at most.
func (c *Client) Unmarked(ctx context.Context, p Pinned) ([]UDPEntry, error) {
	sockets, err := readUDP(ctx, p)
	if err != nil {
		return nil, err
	}
	answers := func(e UDPEntry) bool {
		return p.Asked != nil && sockets.pinned[e.Local.Port()] && !p.Asked[e.Ends] || p.Lost && sockets.connected[e.Ends]
	}
	list, err := c.udpEntries(ctx, fwmark.Mark{}, func(e UDPEntry) bool {
		return e.mark&p.Bits == 0 && !sockets.others[e.Local.Port()] && (e.ours || answers(e))
	})
	for i, e := range list {
		list[i].Guessed = !e.ours && (p.Lost || !sockets.connected[e.Ends])
	}
	return list, err
}

// Marked returns the UDP that this host has begun, and whose connection has a mark. It
// takes CAP_NET_ADMIN, and 10 s at most.
func (c *Client) Marked(ctx context.Context, m fwmark.Mark) ([]UDPEntry, error) {
	return c.udpEntries(ctx, m, func(e UDPEntry) bool { return e.ours && m.Selects(e.mark) })
}

// udpSockets are the UDP sockets of this host.
type udpSockets struct {
	pinned, others map[uint16]bool // ports of those of cgroups that are pinned, and of others
	connected      map[Ends]bool   // of those that are pinned
}

func readUDP(ctx context.Context, p Pinned) (u udpSockets, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	diag, err := dial(ctx, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return u, fmt.Errorf("open sock_diag: %w", explained(err, "sock_diag"))
	}
	defer diag.close()
	u = udpSockets{map[uint16]bool{}, map[uint16]bool{}, map[Ends]bool{}}
	if err := diag.eachUDP(func(s socket, cgroup uint64) {
		if !p.Cgroups[cgroup] {
			u.others[s.local.Port()] = true
			return
		}
		u.pinned[s.local.Port()] = true
		if s.remote.Port() != 0 {
			u.connected[Ends{s.local, s.remote}] = true
		}
	}); err != nil {
		return u, fmt.Errorf("read UDP sockets: %w", explained(err, "sock_diag for UDP"))
	}
	return u, nil
}

// slowTime is for how long conntrack is not asked for all UDP after it did not tell in time.
const slowTime = time.Minute

// udpEntries returns what conntrack knows of this host's UDP, as far as it is selected. The
// kernel selects by the mark first. One dump is of both families: each goes through all
// of conntrack's hash table, some milliseconds. Where it takes longer than limit, it is
// not begun anew at once: a run tries several times, and a DHCP client waits for it.
func (c *Client) udpEntries(ctx context.Context, m fwmark.Mark, selects func(UDPEntry) bool) (list []UDPEntry, err error) {
	if time.Since(c.slow) < slowTime {
		return nil, fmt.Errorf("read what conntrack knows of UDP: it did not tell in time, and is not asked again for %s after that", slowTime)
	}
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer func() {
		if err != nil && ctx.Err() != nil && caller.Err() == nil {
			c.slow = time.Now()
		}
	}()
	own, err := ownAddresses()
	if err != nil {
		return nil, err
	}
	table, done, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { done(err) }()
	err = table.dump(kindOf(nl.IPCTNL_MSG_CT_GET), dumpRequest(m), func(b []byte) error {
		read, err := decodeEntry(b)
		if e, is := read.udp(own); err == nil && is && selects(e) {
			list = append(list, e)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what conntrack knows of UDP: %w", err)
	}
	return list, nil
}

// udp returns an entry as one of UDP of this host; false where it is none, or is
// translated.
func (e entry) udp(own map[netip.Addr]bool) (UDPEntry, bool) {
	f := UDPEntry{Ends: Ends{e.from, e.to}, ours: own[e.from.Addr()], mark: e.mark, name: e.name}
	if !f.ours {
		f.Ends = Ends{e.to, e.from}
	}
	translated := e.from != e.answerTo || e.to != e.answerFrom
	leaves := !own[f.Remote.Addr()] && !f.Remote.Addr().IsLoopback()
	return f, e.protocol == unix.IPPROTO_UDP && !translated && leaves && own[f.Local.Addr()]
}

// dumpRequest is a request for entries that have a mark; for all of them where that is zero.
func dumpRequest(m fwmark.Mark) []byte {
	request := []byte{unix.AF_UNSPEC, nl.NFNETLINK_V0, 0, 0}
	if m.IsZero() {
		return request
	}
	const markMask = 21 // CTA_MARK_MASK
	for _, a := range []struct {
		kind  uint16
		value uint32
	}{{nl.CTA_MARK, m.Value}, {markMask, m.Mask}} {
		request = binary.NativeEndian.AppendUint16(request, unix.NLA_HDRLEN+4)
		request = binary.NativeEndian.AppendUint16(request, a.kind)
		request = binary.BigEndian.AppendUint32(request, a.value)
	}
	return request
}

// Forget has conntrack forget entries, and returns how many there still were. It takes
// CAP_NET_ADMIN, and 10 s at most.
func (c *Client) Forget(ctx context.Context, list []UDPEntry) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	table, done, err := c.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { done(err) }()
	if n, err = table.forget(list); err != nil {
		return n, fmt.Errorf("have conntrack forget UDP: %w", err)
	}
	return n, nil
}

func (c *conn) forget(list []UDPEntry) (n int, err error) {
	for some := range slices.Chunk(list, batchSize) {
		requests := make([]netlink.Message, len(some))
		for i, e := range some {
			requests[i] = netlink.Message{Header: netlink.Header{Type: kindOf(nl.IPCTNL_MSG_CT_DELETE)}, Data: e.name}
		}
		outcomes, err := c.execute(requests)
		if err != nil {
			return n, err
		}
		for _, outcome := range outcomes {
			switch {
			case outcome == nil:
				n++
			case !errors.Is(outcome, unix.ENOENT): // it has ended by itself
				return n, outcome
			}
		}
	}
	return n, nil
}

func ownAddresses() (map[netip.Addr]bool, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("read addresses: %w", err)
	}
	own := map[netip.Addr]bool{}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own[p.Addr().Unmap()] = true
		}
	}
	return own, nil
}

// eachUDP hands each UDP socket to add, with its cgroup's id; 0 where the kernel does
// not say that (before Linux 5.7).
func (c *conn) eachUDP(add func(s socket, cgroup uint64)) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		request := encodeRequest(family, ^uint32(0))
		request[1] = unix.IPPROTO_UDP
		err := c.dump(unix.SOCK_DIAG_BY_FAMILY, request, func(b []byte) error {
			s, err := decodeSocket(b)
			if err != nil {
				return err
			}
			add(s, cgroupOf(b[socketSize:]))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// cgroupOf reads INET_DIAG_CGROUP_ID of a socket's attributes.
func cgroupOf(attributes []byte) uint64 {
	const cgroupID = 21 // linux/inet_diag.h
	d, err := netlink.NewAttributeDecoder(attributes)
	if err != nil {
		return 0
	}
	for d.Next() {
		if b := d.Bytes(); d.Type() == cgroupID && len(b) == 8 {
			return binary.NativeEndian.Uint64(b)
		}
	}
	return 0
}
