package kernel

import (
	"errors"
	"fmt"
	"time"

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
	// The socket is ours. What the library for nftables cannot read makes it
	// fail, and its sockets go through Go's poller, which takes longer than all
	// else that reading does; netlink's nl makes a buffer for each answer.
	fd       int
	sequence uint32 // of the request that was sent last
	answers  []byte // used again
}

// answerSize is more than the kernel puts into one datagram of a dump
// (netlink_recvmsg: 32 KiB less what a socket buffer has of its own).
const answerSize = 32 << 10

// ErrNone says that this kernel has no nf_tables.
var ErrNone = errors.New("this kernel has no nf_tables")

// Open opens the socket. The kernel answers only to CAP_NET_ADMIN.
// Close frees it.
func Open() (*Client, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, explained("open nf_tables", err)
	}
	limit := unix.NsecToTimeval(answerTime.Nanoseconds())
	if err := errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
	); err != nil {
		_ = unix.Close(fd) // nothing was sent
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	return &Client{fd: fd, answers: make([]byte, answerSize)}, nil
}

// Close closes the socket. After a transaction that deleted something the kernel
// has it wait for an RCU grace period, some 6 ms from then on
// (nft_rcv_nl_event); so does the end of the process.
func (c *Client) Close() { _ = unix.Close(c.fd) }

// explained names what was tried. In a kernel without nf_tables there is no
// netfilter netlink at all, or it has no such subsystem (nfnetlink_rcv_msg).
func explained(what string, err error) error {
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%s: %w: %w", what, ErrNone, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
