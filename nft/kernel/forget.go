package kernel

import (
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
)

// Of linux/netfilter/nfnetlink_conntrack.h and nf_conntrack_common.h.
const (
	ctDelete     = 2  // IPCTNL_MSG_CT_DELETE
	ctStatus     = 3  // CTA_STATUS
	ctMark       = 8  // CTA_MARK
	ctMarkMask   = 21 // CTA_MARK_MASK
	ctStatusMask = 26 // CTA_STATUS_MASK
)

// Connections says which of a mark's connections are meant.
type Connections uint32

// Of the bits of linux/netfilter/nf_conntrack_common.h, those that a connection
// has.
const (
	AllConnections Connections = 0
	Masqueraded    Connections = 1 << 4 // IPS_SRC_NAT
)

// Forget has conntrack forget connections that have a mark, in the network
// namespace of the thread that calls. Kernels before 5.18 do not look at NAT
// there, and forget all that have the mark.
func Forget(m fwmark.Mark, of Connections) error {
	what := fmt.Sprintf("forget the connections of mark %s", m)
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer conn.Close()
	attrs := netlink.NewAttributeEncoder()
	attrs.ByteOrder = binary.BigEndian
	attrs.Uint32(ctMark, m.Value)
	attrs.Uint32(ctMarkMask, m.Mask)
	if of != AllConnections {
		attrs.Uint32(ctStatus, uint32(of))
		attrs.Uint32(ctStatusMask, uint32(of))
	}
	data, err := attrs.Encode()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	_, err = conn.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_CTNETLINK<<8 | ctDelete), Flags: netlink.Request | netlink.Acknowledge},
		Data:   append([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0}, data...),
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
