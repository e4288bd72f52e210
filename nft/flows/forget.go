package flows

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Pinned tells what is to be known of connections that have no mark.
type Pinned struct {
	Bits    uint32          // all bits of the marks that connections get
	Cgroups map[uint64]bool // ids of the cgroups that get them
}

// ForgetUnmarked has conntrack forget UDP that this host sent without a mark, and
// which no socket has any more, or one of a pinned cgroup. It is called once the chain
// that marks has come, and returns how many there were.
//
// Such entries are made where the chain is missing for a while, as after `nft flush
// ruleset`: conntrack goes on for some milliseconds, or for as long as others want it.
// It remembers them for half a minute, and a new socket with the same addresses and
// ports would follow what it remembers. TCP needs nothing of that: a SYN begins a
// connection anew. Nobody waits for an answer to a socket that is gone, so no
// firewall misses such an entry.
//
// It takes CAP_NET_ADMIN, and 10 s at most.
func (c *Client) ForgetUnmarked(ctx context.Context, p Pinned) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	own, err := ownAddresses()
	if err != nil {
		return 0, err
	}
	diag, err := dial(ctx, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, fmt.Errorf("open sock_diag: %w", explained(err, "sock_diag"))
	}
	defer diag.close()
	f := unmarked{Pinned: p, own: own, others: map[uint16]bool{}}
	if err := diag.udpPorts(func(port uint16, cgroup uint64) {
		if !p.Cgroups[cgroup] {
			f.others[port] = true
		}
	}); err != nil {
		return 0, fmt.Errorf("read UDP sockets: %w", explained(err, "sock_diag for UDP"))
	}
	table, done, err := c.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { done(err) }()
	if n, err = table.forget(f.selects); err != nil {
		return n, fmt.Errorf("forget UDP without a mark: %w", err)
	}
	return n, nil
}

// forget has conntrack forget the entries that are selected, and returns how many
// there were. One dump is of both families: each goes through all of conntrack's hash
// table, some milliseconds.
func (c *conn) forget(selects func(entry) bool) (n int, err error) {
	var requests []netlink.Message
	err = c.dump(kindOf(nl.IPCTNL_MSG_CT_GET), []byte{unix.AF_UNSPEC, nl.NFNETLINK_V0, 0, 0}, func(b []byte) error {
		e, err := decodeEntry(b)
		if err == nil && selects(e) {
			requests = append(requests, netlink.Message{Header: netlink.Header{Type: kindOf(nl.IPCTNL_MSG_CT_DELETE)}, Data: e.name})
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	for some := range slices.Chunk(requests, batchSize) {
		outcomes, err := c.execute(some)
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

// unmarked selects entries.
type unmarked struct {
	Pinned
	own    map[netip.Addr]bool
	others map[uint16]bool // ports of sockets of cgroups that are not pinned
}

func (u unmarked) selects(e entry) bool {
	translated := e.from != e.answerTo || e.to != e.answerFrom
	return e.protocol == unix.IPPROTO_UDP && e.mark&u.Bits == 0 && u.own[e.from.Addr()] && !translated && !u.others[e.from.Port()]
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

// udpPorts hands the local port of each UDP socket to add, with its cgroup's id; 0
// where the kernel does not say that (before Linux 5.7).
func (c *conn) udpPorts(add func(port uint16, cgroup uint64)) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		request := encodeRequest(family, ^uint32(0))
		request[1] = unix.IPPROTO_UDP
		err := c.dump(unix.SOCK_DIAG_BY_FAMILY, request, func(b []byte) error {
			s, err := decodeSocket(b)
			if err != nil {
				return err
			}
			add(s.local.Port(), cgroupOf(b[socketSize:]))
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
