package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
)

// ctGet is IPCTNL_MSG_CT_GET of linux/netfilter/nfnetlink_conntrack.h.
const ctGet = 1

// Remembers reports whether conntrack has connections with a mark, in the network
// namespace of the thread that calls. ErrNone says that this kernel has no netlink
// for conntrack. Where conntrack is not loaded it is not asked: that would load it.
func Remembers(m fwmark.Mark) (bool, error) {
	if count, err := os.ReadFile(connections); errors.Is(err, fs.ErrNotExist) || string(bytes.TrimSpace(count)) == "0" {
		return false, nil
	}
	what := fmt.Sprintf("ask for the connections of mark %s", m)
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return false, explained(what, err)
	}
	defer conn.Close()
	attrs := netlink.NewAttributeEncoder()
	attrs.ByteOrder = binary.BigEndian
	attrs.Uint32(ctMark, m.Value)
	attrs.Uint32(ctMarkMask, m.Mask)
	data, err := attrs.Encode()
	if err != nil {
		return false, fmt.Errorf("%s: %w", what, err)
	}
	found, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_CTNETLINK<<8 | ctGet), Flags: netlink.Request | netlink.Dump},
		Data:   append([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0}, data...),
	})
	if err != nil {
		return false, explained(what, err)
	}
	return len(found) > 0, nil
}
