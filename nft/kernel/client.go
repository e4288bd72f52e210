package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/nlsock"
)

// bufferSize bounds what one transaction may take, bytes; nothing of that is set
// aside. With the system's own, some 208 KiB, one of thousands of elements is
// refused.
const bufferSize = 64 << 20

// Client reads and changes the table in the network namespace of the thread
// that opened it. It is not for several goroutines at once.
type Client struct {
	socket   *nlsock.Socket
	sequence uint32 // of the request that was sent last
}

// ErrNone says that this kernel has no nf_tables.
var ErrNone = errors.New("this kernel has no nf_tables")

// Open opens the socket. The kernel answers only to CAP_NET_ADMIN.
// Close frees it.
func Open() (*Client, error) {
	s, err := nlsock.Open(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, explained("open nf_tables", err)
	}
	return &Client{socket: s}, nil
}

// Close closes the socket. After a transaction that deleted something the kernel
// has it wait for an RCU grace period, some 6 ms from then on
// (nft_rcv_nl_event); so does the end of the process.
func (c *Client) Close() { c.socket.Close() }

// explained names what was tried. In a kernel without nf_tables there is no
// netfilter netlink at all, or it has no such subsystem (nfnetlink_rcv_msg).
func explained(what string, err error) error {
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%s: %w: %w", what, ErrNone, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
