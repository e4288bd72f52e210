package flows

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Mark returns the mark that conntrack has of a connection between an address of this
// host and a remote one, whichever of both has begun it: 0 where it has none. known is
// false where conntrack does not know it. protocol is one that has ports.
//
// Where conntrack is not loaded, or remembers nothing, it is not asked: that would
// load it. An error is errors.ErrUnsupported where the kernel has no ctnetlink.
func (c *Client) Mark(ctx context.Context, protocol uint8, local, remote netip.AddrPort) (mark uint32, known bool, err error) {
	if c.table == nil && remembersNothing() {
		return 0, false, nil
	}
	table, done, err := c.begin(ctx)
	if err != nil {
		return 0, false, err
	}
	defer func() { done(err) }()
	mark, known, err = table.mark(protocol, local, remote)
	if err != nil {
		return 0, false, fmt.Errorf("ask conntrack for %s > %s: %w", local, remote, err)
	}
	return mark, known, nil
}

// mark asks by one direction of the connection: the kernel finds it by either.
func (c *conn) mark(protocol uint8, local, remote netip.AddrPort) (mark uint32, known bool, err error) {
	e := netlink.NewAttributeEncoder()
	e.ByteOrder = binary.BigEndian
	e.Nested(nl.CTA_TUPLE_ORIG, tuple(protocol, local, remote))
	attrs, err := e.Encode()
	if err != nil {
		return 0, false, err
	}
	request := append(nfgenmsg(local.Addr()), attrs...)
	err = c.ask(kindOf(nl.IPCTNL_MSG_CT_GET), netlink.Acknowledge, request, func(b []byte) error {
		found, err := decodeEntry(b)
		mark, known = found.mark, true
		return err
	})
	if errors.Is(err, unix.ENOENT) {
		return 0, false, nil
	}
	return mark, known, err
}

// countFile is the number of connections that conntrack remembers, per network
// namespace. Without conntrack it is not there.
const countFile = "/proc/sys/net/netfilter/nf_conntrack_count"

func remembersNothing() bool {
	count, err := os.ReadFile(countFile)
	return errors.Is(err, os.ErrNotExist) || strings.TrimSpace(string(count)) == "0"
}
