package flows

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Client is a socket to conntrack, in the network namespace of the thread that first
// used it; the zero value opens it then. It is not for several goroutines at once.
// Close frees it.
//
// The socket is kept: after deletions in nf_tables the kernel has each socket of
// nfnetlink that is closed wait for RCU, and nobody else gets a transaction meanwhile
// (nft_rcv_nl_event).
type Client struct {
	table *conn
	slow  time.Time // when conntrack last did not tell in time
}

// Close closes the socket.
func (c *Client) Close() {
	if c.table != nil {
		c.table.close()
		c.table = nil
	}
}

// begin returns the socket, whose reads end with a context. done is called with what
// came of it: after a failure answers may be on their way, and no later request may
// have them.
func (c *Client) begin(ctx context.Context) (table *conn, done func(error), err error) {
	if c.table == nil {
		c.table, err = openConntrack(ctx)
	} else {
		c.table.begin(ctx)
	}
	if err != nil {
		return nil, nil, err
	}
	return c.table, func(err error) {
		if !c.table.stop() || err != nil {
			c.Close()
		}
	}, nil
}

// kindOf returns the type of a ctnetlink message.
func kindOf(message int) netlink.HeaderType {
	return netlink.HeaderType(unix.NFNL_SUBSYS_CTNETLINK<<8 | message)
}

// getStats is IPCTNL_MSG_CT_GET_STATS, linux/netfilter/nfnetlink_conntrack.h.
const getStats = 5

// openConntrack opens ctnetlink, and asks it for something that is there in
// every kernel: later, "invalid argument" could mean that there is none, or
// that an entry is refused.
func openConntrack(ctx context.Context) (*conn, error) {
	c, err := dial(ctx, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open ctnetlink: %w", explained(err, "nfnetlink"))
	}
	outcomes, err := c.execute(probe())
	if err == nil {
		err = outcomes[0]
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("open ctnetlink: %w", explained(err, "ctnetlink"))
	}
	return c, nil
}

func probe() []netlink.Message {
	return []netlink.Message{{Header: netlink.Header{Type: kindOf(getStats)}, Data: []byte{unix.AF_UNSPEC, nl.NFNETLINK_V0, 0, 0}}}
}

// explained says what the kernel lacks where it only answered with a number:
// EPROTONOSUPPORT for the protocol, ENOENT for a kind of socket, EINVAL for a
// subsystem.
func explained(err error, what string) error {
	for _, e := range []error{unix.EPROTONOSUPPORT, unix.ENOENT, unix.EINVAL} {
		if errors.Is(err, e) {
			return fmt.Errorf("this kernel has no %s (%w): %w", what, err, errors.ErrUnsupported)
		}
	}
	return err
}
