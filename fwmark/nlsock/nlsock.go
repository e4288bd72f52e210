// Package nlsock is a netlink socket for one goroutine: requests out, datagrams of
// the kernel in, and those cut into messages. It knows no family of netlink.
//
// It is ours because libraries copy each message into pieces, or go through Go's
// poller. Of a thousand addresses that took more time than all that is decided
// about them.
package nlsock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// answerTime bounds the wait for one answer of the kernel, which comes within
// milliseconds, and after a tenth of a second to a transaction of 50,000 elements,
// unless something else holds the lock of routing or of nf_tables.
const answerTime = 10 * time.Second

// answerSize is more than the kernel puts into one datagram of a dump
// (netlink_recvmsg: 32 KiB less what a socket buffer has of its own).
const answerSize = 32 << 10

// DumpTries bounds how often a dump is begun again because the kernel's state
// changed under it (NLM_F_DUMP_INTR).
const DumpTries = 10

// ErrInterrupted says that it did so each time.
var ErrInterrupted = errors.New("the kernel's state changed under each of its answers")

// ErrShort says that a message ends before what it must have.
var ErrShort = errors.New("message of the kernel is too short")

// Socket is a socket in the network namespace of the thread that opened it.
type Socket struct {
	FD      int
	answers []byte // used again
}

// Open opens a socket of a family of netlink, NETLINK_ROUTE or another one.
func Open(family int) (*Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, family)
	if err != nil {
		return nil, err
	}
	limit := unix.NsecToTimeval(answerTime.Nanoseconds())
	if err := errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
	); err != nil {
		_ = unix.Close(fd) // nothing was sent
		return nil, err
	}
	return &Socket{FD: fd, answers: make([]byte, answerSize)}, nil
}

// Close closes the socket.
func (s *Socket) Close() { _ = unix.Close(s.FD) }

// Send sends requests to the kernel, in one datagram.
func (s *Socket) Send(requests []byte) error {
	return unix.Sendto(s.FD, requests, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// Receive takes one datagram in, which the next one overwrites.
func (s *Socket) Receive() ([]byte, error) {
	for {
		n, from, err := unix.Recvfrom(s.FD, s.answers, unix.MSG_TRUNC)
		sender, _ := from.(*unix.SockaddrNetlink)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return nil, fmt.Errorf("no answer of the kernel within %s", answerTime)
		case err != nil:
			return nil, err
		case n > len(s.answers):
			return nil, fmt.Errorf("answer of %d bytes, there is room for %d", n, len(s.answers))
		case sender != nil && sender.Pid == 0: // the kernel
			return s.answers[:n], nil
		}
	}
}

// Message is one of the kernel's, struct nlmsghdr and what follows it.
type Message struct {
	Kind, Flags uint16
	Sequence    uint32 // of the request that it answers
	Body        []byte
}

// Cut cuts the first message off a datagram.
func Cut(datagram []byte) (m Message, rest []byte, err error) {
	if len(datagram) < unix.NLMSG_HDRLEN {
		return m, nil, ErrShort
	}
	length := binary.NativeEndian.Uint32(datagram)
	if length < unix.NLMSG_HDRLEN || uint64(length) > uint64(len(datagram)) {
		return m, nil, fmt.Errorf("answer of %d bytes, %d are there", length, len(datagram))
	}
	m = Message{
		Kind: binary.NativeEndian.Uint16(datagram[4:]), Flags: binary.NativeEndian.Uint16(datagram[6:]),
		Sequence: binary.NativeEndian.Uint32(datagram[8:]), Body: datagram[unix.NLMSG_HDRLEN:length],
	}
	aligned := (int(length) + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1)
	return m, datagram[min(len(datagram), aligned):], nil
}
