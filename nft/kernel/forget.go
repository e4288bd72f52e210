package kernel

import (
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
)

// Of linux/netfilter/nfnetlink_conntrack.h.
const (
	ctDelete   = 2  // IPCTNL_MSG_CT_DELETE
	ctMark     = 8  // CTA_MARK
	ctMarkMask = 21 // CTA_MARK_MASK
)

// Forget has conntrack forget the connections that have a mark, in the network
// namespace of the thread that calls. ErrNone says that this kernel has no
// netlink for conntrack.
func Forget(m fwmark.Mark) error {
	what := fmt.Sprintf("forget the connections of mark %s", m)
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return explained(what, err)
	}
	defer conn.Close()
	attrs := netlink.NewAttributeEncoder()
	attrs.ByteOrder = binary.BigEndian
	attrs.Uint32(ctMark, m.Value)
	attrs.Uint32(ctMarkMask, m.Mask)
	data, err := attrs.Encode()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	_, err = conn.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_CTNETLINK<<8 | ctDelete), Flags: netlink.Request | netlink.Acknowledge},
		Data:   append([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0}, data...),
	})
	if err != nil {
		return explained(what, err)
	}
	return nil
}
