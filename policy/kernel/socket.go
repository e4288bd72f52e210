package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// answerTime bounds the wait for one answer of the kernel, which comes within
// a millisecond unless something else holds the routing lock.
const answerTime = 10 * time.Second

// socket is one of rtnetlink(7). It is ours because libraries copy each message
// into pieces: of a thousand addresses that took more time than all that is
// decided about them.
type socket struct {
	fd       int
	sequence uint32 // of the request that was sent last
	request  []byte // these two are used again
	answers  []byte
}

// answerSize is more than the kernel puts into one datagram of a dump
// (netlink_recvmsg: 32 KiB less what a socket buffer has of its own).
const answerSize = 32 << 10

func openSocket() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	limit := unix.NsecToTimeval(answerTime.Nanoseconds())
	if err := errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
	); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	// Not worth failing for: dumps that the kernel filters, as they are filtered
	// here as well; errors in words, and without the whole request.
	for _, option := range []int{unix.NETLINK_GET_STRICT_CHK, unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK} {
		_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, option, 1)
	}
	return &socket{fd: fd, answers: make([]byte, answerSize)}, nil
}

func (s *socket) close() { _ = unix.Close(s.fd) }

// send sends what is in s.request.
func (s *socket) send() error {
	return unix.Sendto(s.fd, s.request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// receive takes one datagram in, which the next one overwrites.
func (s *socket) receive() ([]byte, error) {
	for {
		n, from, err := unix.Recvfrom(s.fd, s.answers, unix.MSG_TRUNC)
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

// ask sends a request, and hands the body of each answer of that kind to add,
// which may not keep it. interrupted says that the kernel's state changed while
// it answered.
func (s *socket) ask(kind, flags uint16, body []byte, answer uint16, add func([]byte) error) (interrupted bool, err error) {
	s.sequence++
	s.request = appendMessage(s.request[:0], kind, flags, s.sequence, body)
	if err := s.send(); err != nil {
		return false, err
	}
	for done := false; !done; {
		b, receiveErr := s.receive()
		if receiveErr != nil {
			return interrupted, receiveErr
		}
		for len(b) > 0 {
			var m message
			var next error
			if m, b, next = nextMessage(b); next != nil {
				return interrupted, next
			}
			if m.sequence != s.sequence { // of a request that was given up
				continue
			}
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch m.kind {
			case answer:
				if bad := add(m.body); err == nil {
					err = bad
				}
				done = done || flags&unix.NLM_F_DUMP == 0
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				outcome, bad := m.outcome()
				if bad != nil {
					return interrupted, bad
				}
				if err == nil {
					err = outcome
				}
				done = true
			}
		}
	}
	return interrupted, err
}

// dumpTries bounds how often a dump is begun again because the kernel's state
// changed under it.
const dumpTries = 10

var errInterrupted = errors.New("the kernel's state changed under each of its answers")

// dump asks for objects, and hands the body of each one's message to add, which
// may not keep it. restart is called first, and again when the kernel says that
// the dump was interrupted. A table that is not there is empty.
func (s *socket) dump(kind uint16, body []byte, answer uint16, restart func(), add func([]byte) error) error {
	for range dumpTries {
		restart()
		interrupted, err := s.ask(kind, unix.NLM_F_DUMP, body, answer, add)
		switch {
		case errors.Is(err, unix.ENOENT):
			return nil
		case err != nil || !interrupted:
			return err
		}
	}
	return errInterrupted
}

// message is one of the kernel's.
type message struct {
	kind, flags uint16
	sequence    uint32
	body        []byte
}

// nextMessage cuts the first message off a datagram.
func nextMessage(b []byte) (m message, rest []byte, err error) {
	if len(b) < unix.SizeofNlMsghdr {
		return m, nil, errShort
	}
	length := binary.NativeEndian.Uint32(b)
	if length < unix.SizeofNlMsghdr || uint64(length) > uint64(len(b)) {
		return m, nil, fmt.Errorf("answer of %d bytes, %d are there", length, len(b))
	}
	m = message{
		kind: binary.NativeEndian.Uint16(b[4:]), flags: binary.NativeEndian.Uint16(b[6:]), sequence: binary.NativeEndian.Uint32(b[8:]),
		body: b[unix.SizeofNlMsghdr:length],
	}
	return m, b[min(len(b), aligned(int(length))):], nil
}

// outcome reads NLMSG_ERROR, struct nlmsgerr, and NLMSG_DONE, which has an errno
// alone: nil for a success, or the errno, with the kernel's own words where
// there are any. err says that it cannot be read.
func (m message) outcome() (outcome, err error) {
	skip := 4
	if m.kind == unix.NLMSG_ERROR {
		skip += unix.SizeofNlMsghdr
	}
	if len(m.body) < skip {
		return nil, errShort
	}
	errno := int32(binary.NativeEndian.Uint32(m.body))
	if errno == 0 {
		return nil, nil
	}
	outcome = unix.Errno(-errno)
	if m.flags&unix.NLM_F_ACK_TLVS == 0 {
		return outcome, nil
	}
	if m.kind == unix.NLMSG_ERROR && m.flags&unix.NLM_F_CAPPED == 0 { // the whole request was sent back
		skip = 4 + aligned(int(binary.NativeEndian.Uint32(m.body[4:])))
	}
	if skip < 0 || skip > len(m.body) {
		return nil, errShort
	}
	_, err = eachAttribute(m.body[skip:], func(a attribute) bool {
		if a.kind == unix.NLMSGERR_ATTR_MSG {
			outcome = fmt.Errorf("%w: %s", outcome, unix.ByteSliceToString(a.value))
		}
		return true
	})
	return outcome, err
}
