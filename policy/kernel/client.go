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
	handle *netlink.Handle   // links and addresses
	dumps  sockets           // reads rules and routes
	steps  *batch            // changes them
	links  map[string]uint32 // index by name, as read last
	names  map[uint32]string // the other way round
}

// sockets is a socket as nl's requests want it, by protocol.
type sockets map[int]*nl.SocketHandle

// Open opens the sockets. It needs no privilege; changing anything does.
func Open() (*Client, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	c := &Client{handle: handle}
	if err := errors.Join(c.open(), handle.SetSocketTimeout(answerTime)); err != nil {
		c.Close()
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return c, nil
}

func (c *Client) open() error {
	var err error
	if c.dumps, err = newSocket(); err != nil {
		return err
	}
	// The kernel filters dumps then. They are filtered here as well, so it is
	// not worth failing for. Extended acks are not for this socket: nl looks
	// for the request in NLMSG_DONE, where none is, and panics.
	_ = unix.SetsockoptInt(c.dumps[unix.NETLINK_ROUTE].Socket.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	c.steps, err = openBatch()
	return err
}

func newSocket() (sockets, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	limit := unix.NsecToTimeval(answerTime.Nanoseconds())
	if err := errors.Join(s.SetSendTimeout(&limit), s.SetReceiveTimeout(&limit)); err != nil {
		s.Close()
		return nil, err
	}
	return sockets{unix.NETLINK_ROUTE: {Socket: s}}, nil
}

// Close closes the sockets.
func (c *Client) Close() {
	c.handle.Close()
	for _, s := range c.dumps {
		s.Close()
	}
	if c.steps != nil {
		c.steps.close()
	}
}

// question begins a dump; header is the fixed part behind nlmsghdr.
func (c *Client) question(kind int, header nl.NetlinkRequestData) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, unix.NLM_F_DUMP)
	req.Sockets = c.dumps
	req.AddData(header)
	return req
}

// dumpTries bounds how often a dump is begun again because the kernel's state
// changed under it.
const dumpTries = 10

// dump asks for objects, and hands each one's message to add, which may keep
// it. restart is called first, and again when the kernel says that the
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
