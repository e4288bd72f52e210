package kernel

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// bufferSize bounds what one transaction may take, bytes; nothing of that is set
// aside. With the system's own, some 208 KiB, one of thousands of elements is
// refused.
const bufferSize = 64 << 20

// answerTime bounds the wait for the kernel: a transaction of 50,000 elements
// takes a tenth of a second, but others may hold nf_tables' lock.
const answerTime = 10 * time.Second

// Client reads and changes the table in the network namespace of the thread
// that opened it. It is not for several goroutines at once.
type Client struct {
	// sockets has a socket of netlink's nl: what the library for nftables cannot
	// read makes it fail, and its sockets go through Go's poller, which takes
	// longer than all else that reading does.
	sockets map[int]*nl.SocketHandle
}

// ErrNone says that this kernel has no nf_tables.
var ErrNone = errors.New("this kernel has no nf_tables")

// Open opens the socket. The kernel answers only to CAP_NET_ADMIN.
// Close frees it.
func Open() (*Client, error) {
	s, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, explained("open nf_tables", err)
	}
	limit := unix.NsecToTimeval(answerTime.Nanoseconds())
	if err := errors.Join(s.SetSendTimeout(&limit), s.SetReceiveTimeout(&limit)); err != nil {
		s.Close()
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	return &Client{sockets: map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: {Socket: s}}}, nil
}

// Close closes the socket.
func (c *Client) Close() {
	for _, s := range c.sockets {
		s.Close()
	}
}

// explained names what was tried. In a kernel without nf_tables there is no
// netfilter netlink at all, or it has no such subsystem (nfnetlink_rcv_msg).
func explained(what string, err error) error {
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%s: %w: %w", what, ErrNone, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
