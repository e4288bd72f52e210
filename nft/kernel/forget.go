package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"

	"github.com/mdlayher/netlink"
	rtnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
)

// Of linux/netfilter/nfnetlink_conntrack.h.
const (
	ctGet      = 1  // IPCTNL_MSG_CT_GET
	ctDelete   = 2  // IPCTNL_MSG_CT_DELETE
	ctMark     = 8  // CTA_MARK
	ctMarkMask = 21 // CTA_MARK_MASK
)

// connections is the number of connections that conntrack remembers, in the
// network namespace of the thread that reads. Without conntrack it is not there.
const connections = "/proc/sys/net/netfilter/nf_conntrack_count"

// Conntrack is a socket to conntrack, in the network namespace of the thread that first
// used it; the zero value opens it then. It is not for several goroutines at once.
// Close frees it. It is kept for the reason that Client.Close names.
type Conntrack struct{ conn *netlink.Conn }

// Close closes the socket.
func (c *Conntrack) Close() {
	if c.conn != nil {
		_ = c.conn.Close() // it is asked nothing any more
		c.conn = nil
	}
}

// Forget has conntrack forget the connections that have a mark. ErrNone says that this kernel has no
// netlink for conntrack. Where conntrack is not loaded, or remembers nothing, it
// is not asked: that would load it.
func (c *Conntrack) Forget(m fwmark.Mark) error {
	_, err := c.ofMark(fmt.Sprintf("forget the connections of mark %s", m), ctDelete, netlink.Acknowledge, m)
	return err
}

// Remembers reports whether conntrack has connections with a mark. All else is as
// with Forget.
func (c *Conntrack) Remembers(m fwmark.Mark) (bool, error) {
	found, err := c.ofMark(fmt.Sprintf("ask for the connections of mark %s", m), ctGet, netlink.Dump, m)
	return len(found) > 0, err
}

// ofMark asks conntrack something about the connections that have a mark.
func (c *Conntrack) ofMark(what string, message netlink.HeaderType, flags netlink.HeaderFlags, m fwmark.Mark) ([]netlink.Message, error) {
	if count, err := os.ReadFile(connections); errors.Is(err, fs.ErrNotExist) || string(bytes.TrimSpace(count)) == "0" {
		return nil, nil
	}
	if c.conn == nil {
		conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
		if err != nil {
			return nil, explained(what, err)
		}
		c.conn = conn
	}
	attrs := netlink.NewAttributeEncoder()
	attrs.ByteOrder = binary.BigEndian
	attrs.Uint32(ctMark, m.Value)
	attrs.Uint32(ctMarkMask, m.Mask)
	data, err := attrs.Encode()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	found, err := c.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_CTNETLINK<<8 | message, Flags: netlink.Request | flags},
		Data:   append([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0}, data...),
	})
	if err != nil {
		c.Close() // answers may be on their way
		return nil, explained(what, err)
	}
	return found, nil
}

// ForgetSource has conntrack forget the connections that were translated to a
// source, in the network namespace of the thread that calls.
func ForgetSource(a netip.Addr) error {
	family := unix.AF_INET6
	if a.Is4() {
		family = unix.AF_INET
	}
	if _, err := rtnl.ConntrackDeleteFilters(rtnl.ConntrackTable, rtnl.InetFamily(family), translatedTo(a)); err != nil {
		return fmt.Errorf("forget the connections from %s: %w", a, err)
	}
	return nil
}

// translatedTo selects connections by the address that answers are sent to.
type translatedTo netip.Addr

// MatchConntrackFlow reports whether the connection is one of them.
func (t translatedTo) MatchConntrackFlow(f *rtnl.ConntrackFlow) bool {
	answered, ok := netip.AddrFromSlice(f.Reverse.DstIP)
	source, _ := netip.AddrFromSlice(f.Forward.SrcIP)
	return ok && answered.Unmap() == netip.Addr(t) && source.Unmap() != netip.Addr(t)
}
