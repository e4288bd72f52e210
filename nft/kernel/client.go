package kernel

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"wg-multihome/nft"
)

// bufferSize is that of a socket's buffers, bytes. With the system's own, some
// 208 KiB, a transaction of thousands of elements is refused.
const bufferSize = 8 << 20

// answerTime bounds the wait for the kernel: a transaction of 50,000 elements
// takes a tenth of a second, but others may hold nf_tables' lock.
const answerTime = 10 * time.Second

// Client reads and changes the table in the network namespace of the thread
// that calls. It is not for several goroutines at once.
type Client struct {
	conn *nftables.Conn // changes; it opens a socket for each transaction
	raw  *netlink.Conn  // reads: the library fails on what it does not know
}

// ErrNone says that this kernel has no nf_tables.
var ErrNone = errors.New("this kernel has no nf_tables")

// table is ours, to the library.
func table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: nft.Table}
}

// Open opens what reading takes. The kernel answers only to CAP_NET_ADMIN.
// Close frees it.
func Open() (*Client, error) {
	c := &Client{}
	setup := func(conn *netlink.Conn) error {
		// Where that is not allowed, smaller ones do for most.
		_ = conn.SetReadBuffer(bufferSize)
		_ = conn.SetWriteBuffer(bufferSize)
		return conn.SetDeadline(time.Now().Add(answerTime))
	}
	var err error
	if c.conn, err = nftables.New(nftables.WithSockOptions(setup)); err != nil {
		return nil, explained("open nf_tables", err)
	}
	if c.raw, err = netlink.Dial(unix.NETLINK_NETFILTER, nil); err != nil {
		return nil, explained("open nf_tables", err)
	}
	_ = c.raw.SetReadBuffer(bufferSize)
	return c, nil
}

// Close closes the socket.
func (c *Client) Close() { _ = c.raw.Close() }

// explained names what was tried. In a kernel without nf_tables there is no
// netfilter netlink at all, or it has no such subsystem (nfnetlink_rcv_msg).
func explained(what string, err error) error {
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%s: %w: %w", what, ErrNone, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
