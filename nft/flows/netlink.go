package flows

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// conn is a netlink socket whose reads end with a context. It is not for
// several goroutines at once.
//
// It reads datagrams itself: netlink's Receive keeps a whole dump in memory,
// and of answers to many requests does not say which one failed.
type conn struct {
	ctx    context.Context
	socket *netlink.Conn
	raw    syscall.RawConn
	stop   func() bool
	buffer []byte
}

// bufferSize is more than the kernel puts in one datagram (32 KiB), and a
// multiple of netlink's alignment.
const bufferSize = 64 << 10

// dial opens a socket in the network namespace of the calling thread.
func dial(ctx context.Context, protocol int) (*conn, error) {
	socket, err := netlink.Dial(protocol, nil)
	if err != nil {
		return nil, err
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		_ = socket.Close()
		return nil, err
	}
	// Not worth failing for: without it answers carry the whole request.
	_ = socket.SetOption(netlink.CapAcknowledge, true)
	c := &conn{socket: socket, raw: raw, buffer: make([]byte, bufferSize)}
	c.begin(ctx)
	return c, nil
}

// begin has the reads that follow end with a context, up to stop.
func (c *conn) begin(ctx context.Context) {
	c.ctx = ctx
	c.stop = context.AfterFunc(ctx, func() { _ = c.socket.SetReadDeadline(time.Unix(1, 0)) })
}

func (c *conn) close() {
	c.stop()
	_ = c.socket.Close()
}

// receive returns the messages of one datagram, which are good until the next
// call.
func (c *conn) receive() ([]syscall.NetlinkMessage, error) {
	var n, flags int
	var err error
	wait := c.raw.Read(func(fd uintptr) bool {
		n, _, flags, _, err = unix.Recvmsg(int(fd), c.buffer, nil, unix.MSG_DONTWAIT)
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	switch {
	case c.ctx.Err() != nil:
		return nil, c.ctx.Err()
	case wait != nil:
		return nil, wait
	case err != nil:
		return nil, err
	case flags&unix.MSG_TRUNC != 0:
		return nil, fmt.Errorf("datagram of the kernel is longer than %d bytes", bufferSize)
	}
	return messages(c.buffer, n)
}

// messages splits a datagram of n bytes; b has room for what aligns the last
// message.
func messages(b []byte, n int) ([]syscall.NetlinkMessage, error) {
	m, err := syscall.ParseNetlinkMessage(b[:(n+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)])
	if err != nil {
		return nil, fmt.Errorf("datagram of %d bytes: %w", n, err)
	}
	return m, nil
}

// errno reads what NLMSG_ERROR and NLMSG_DONE begin with.
func errno(m syscall.NetlinkMessage) (outcome, err error) {
	if len(m.Data) < 4 {
		return nil, errShort
	}
	if n := int32(binary.NativeEndian.Uint32(m.Data)); n != 0 {
		return unix.Errno(-n), nil
	}
	return nil, nil
}

// dump asks for objects, and hands each one's message to add, which must not
// keep it.
func (c *conn) dump(kind netlink.HeaderType, request []byte, add func([]byte) error) error {
	return c.ask(kind, netlink.Dump, request, add)
}

// ask asks for all objects of a kind, or for one (netlink.Acknowledge), likewise.
func (c *conn) ask(kind netlink.HeaderType, flags netlink.HeaderFlags, request []byte, add func([]byte) error) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	ask := netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request | flags}, Data: request}
	sent, err := c.socket.Send(ask)
	if err != nil {
		return err
	}
	for {
		list, err := c.receive()
		if err != nil {
			return err
		}
		for _, m := range list {
			if m.Header.Seq != sent.Header.Sequence {
				continue
			}
			switch m.Header.Type {
			case unix.NLMSG_ERROR, unix.NLMSG_DONE:
				outcome, err := errno(m)
				return errors.Join(outcome, err)
			}
			if err := add(m.Data); err != nil {
				return err
			}
		}
	}
}

// batchSize bounds the requests in one datagram, so that all their answers fit
// the socket's receive buffer (net.core.rmem_default, 208 KiB; an answer takes
// less than 1 KiB of it).
const batchSize = 128

// execute sends requests in one datagram, batchSize at most, and returns the
// outcome of each. The kernel works them off one by one, and answers those
// alone that failed, and the last.
func (c *conn) execute(requests []netlink.Message) ([]error, error) {
	if err := c.ctx.Err(); err != nil {
		return nil, err
	}
	for i := range requests {
		requests[i].Header.Sequence = uint32(i + 1)
		requests[i].Header.Flags |= netlink.Request
	}
	requests[len(requests)-1].Header.Flags |= netlink.Acknowledge
	if _, err := c.socket.SendMessages(requests); err != nil {
		return nil, err
	}
	outcomes := make([]error, len(requests))
	for {
		list, err := c.receive()
		if err != nil {
			return nil, err
		}
		last, err := answers(list, outcomes)
		if err != nil || last {
			return outcomes, err
		}
	}
}

// answers reads answers into outcomes, by sequence number from 1 on, and
// reports whether that of the last request was among them.
func answers(list []syscall.NetlinkMessage, outcomes []error) (last bool, err error) {
	for _, m := range list {
		i := int64(m.Header.Seq) - 1
		if m.Header.Type != unix.NLMSG_ERROR || i < 0 || i >= int64(len(outcomes)) {
			continue
		}
		if outcomes[i], err = errno(m); err != nil {
			return false, err
		}
		last = last || i == int64(len(outcomes))-1
	}
	return last, nil
}
