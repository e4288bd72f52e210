package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/nlsock"
)

// batch is a transaction in the making: messages that the kernel does all
// together, or none of them (nfnetlink_rcv_batch). It is made here, and not by
// the library, as that asks for an answer to each message, and two goroutines
// wait for each of them.
type batch struct {
	messages []byte
	last     int // where the last message begins
	count    uint32
}

func newBatch() *batch {
	b := &batch{}
	b.bound(unix.NFNL_MSG_BATCH_BEGIN)
	return b
}

// bound adds what begins or ends a batch.
func (b *batch) bound(kind uint16) {
	subsystem := binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, unix.NFNL_SUBSYS_NFTABLES)
	b.message(kind, 0, subsystem)
}

// add adds a message of nf_tables in family inet.
func (b *batch) add(kind, flags uint16, attributes ...[]byte) {
	b.last = len(b.messages)
	b.message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, append([][]byte{{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}}, attributes...)...)
}

func (b *batch) message(kind, flags uint16, parts ...[]byte) {
	begin := len(b.messages)
	b.messages = append(b.messages, make([]byte, unix.NLMSG_HDRLEN)...)
	for _, p := range parts {
		b.messages = append(b.messages, p...)
	}
	h := b.messages[begin:]
	binary.NativeEndian.PutUint32(h, uint32(len(h)))
	binary.NativeEndian.PutUint16(h[4:], kind)
	binary.NativeEndian.PutUint16(h[6:], unix.NLM_F_REQUEST|flags)
	binary.NativeEndian.PutUint32(h[8:], b.count)
	b.count++
}

// send has the kernel do the batch, and returns the first error that it met:
// those behind it mostly follow from it.
func (b *batch) send(s *nlsock.Socket) error {
	// The kernel answers what fails, and the last message in any case.
	flags := b.messages[b.last+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	b.bound(unix.NFNL_MSG_BATCH_END)
	// Where a larger buffer is not allowed, a smaller one does for most.
	if err := unix.SetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, bufferSize); err != nil {
		_ = unix.SetsockoptInt(s.FD, unix.SOL_SOCKET, unix.SO_SNDBUF, bufferSize)
	}
	if err := s.Send(b.messages); err != nil {
		if errors.Is(err, unix.EMSGSIZE) {
			return fmt.Errorf("send %d bytes: %w", len(b.messages), err)
		}
		return err
	}
	return answered(s.FD)
}

var errNoAnswer = errors.New("the kernel did not answer")

// answered reads the answers, which are all there once the batch was taken.
func answered(fd int) error {
	err := errNoAnswer
	buffer := make([]byte, 4096) // an answer repeats the message, and may be cut
	for {
		n, _, readErr := unix.Recvfrom(fd, buffer, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(readErr, unix.EAGAIN):
			return err
		case errors.Is(readErr, unix.EINTR), errors.Is(readErr, unix.ENOBUFS): // more failed than can be told
			continue
		case readErr != nil:
			return readErr
		}
		if n < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint16(buffer[4:]) != unix.NLMSG_ERROR {
			continue
		}
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(buffer[unix.NLMSG_HDRLEN:])))
		switch {
		case errno != 0 && (err == nil || err == errNoAnswer):
			err = errno
		case errno == 0 && err == errNoAnswer:
			err = nil
		}
	}
}

// attribute returns an attribute with its padding; kind may be NLA_F_NESTED.
func attribute(kind uint16, parts ...[]byte) []byte {
	const header, align = unix.NLA_HDRLEN, unix.NLA_ALIGNTO
	a := make([]byte, header)
	for _, p := range parts {
		a = append(a, p...)
	}
	binary.NativeEndian.PutUint16(a, uint16(len(a)))
	binary.NativeEndian.PutUint16(a[2:], kind)
	return append(a, make([]byte, (align-len(a)%align)%align)...)
}

func nest(kind uint16, parts ...[]byte) []byte { return attribute(unix.NLA_F_NESTED|kind, parts...) }

func word(kind uint16, s string) []byte { return attribute(kind, append([]byte(s), 0)) }

// number32 is a number in the order of the network, as all are in nf_tables.
func number32(kind uint16, n uint32) []byte {
	return attribute(kind, binary.BigEndian.AppendUint32(nil, n))
}
