package kernel

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// answerTime bounds the wait for one answer of the kernel, which comes within
// a millisecond unless something else holds the routing lock.
const answerTime = 10 * time.Second

// Client speaks rtnetlink in the network namespace of the thread that opened
// it. It is not for several goroutines at once.
type Client struct {
	handle *netlink.Handle          // links and addresses
	socket map[int]*nl.SocketHandle // rules and routes: one socket for everything
	links  map[string]uint32        // index by name, as read last
}

// Open opens the sockets. It needs no privilege; changing anything does.
func Open() (*Client, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	s, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		handle.Close()
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	c := &Client{handle: handle, socket: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}}
	if err := c.prepare(s); err != nil {
		c.Close()
		return nil, fmt.Errorf("prepare rtnetlink: %w", err)
	}
	return c, nil
}

func (c *Client) prepare(s *nl.NetlinkSocket) error {
	limit := unix.NsecToTimeval(answerTime.Nanoseconds())
	if err := errors.Join(s.SetSendTimeout(&limit), s.SetReceiveTimeout(&limit), c.handle.SetSocketTimeout(answerTime)); err != nil {
		return err
	}
	// Neither is worth failing for: the first gives errors their text, the
	// second has the kernel filter dumps, which are filtered here as well.
	_ = s.SetExtAck(true)
	_ = unix.SetsockoptInt(s.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	return nil
}

// Close closes the sockets.
func (c *Client) Close() {
	c.handle.Close()
	for _, s := range c.socket {
		s.Close()
	}
}

// request begins a message; header is the fixed part behind nlmsghdr.
func (c *Client) request(kind, flags int, header nl.NetlinkRequestData) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags)
	req.Sockets = c.socket
	req.AddData(header)
	return req
}

// dumpTries bounds how often a dump is begun again because the kernel's state
// changed under it.
const dumpTries = 10

// dump asks for objects, and hands each one's message to add, which must not
// keep it. restart is called first, and again when the kernel says that the
// dump was interrupted. A table that is not there is empty.
func dump(req *nl.NetlinkRequest, answer uint16, restart func(), add func([]byte)) error {
	var err error
	for range dumpTries {
		restart()
		err = req.ExecuteIter(unix.NETLINK_ROUTE, answer, func(m []byte) bool {
			add(m)
			return true
		})
		switch {
		case errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, netlink.ErrDumpInterrupted):
			return err
		}
	}
	return err
}
