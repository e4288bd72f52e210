package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/nlsock"
)

// socket is one of rtnetlink(7).
type socket struct {
	*nlsock.Socket
	sequence uint32 // of the request that was sent last
	request  []byte // used again
}

func openSocket() (*socket, error) {
	s, err := nlsock.Open(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	// Not worth failing for: dumps that the kernel filters, as they are filtered
	// here as well; errors in words, and without the whole request.
	for _, option := range []int{unix.NETLINK_GET_STRICT_CHK, unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK} {
		_ = unix.SetsockoptInt(s.FD, unix.SOL_NETLINK, option, 1)
	}
	return &socket{Socket: s}, nil
}

// ask sends a request, and hands the body of each answer of that kind to add,
// which may not keep it. interrupted says that the kernel's state changed while
// it answered.
func (s *socket) ask(kind, flags uint16, body []byte, answer uint16, add func([]byte) error) (interrupted bool, err error) {
	s.sequence++
	s.request = appendMessage(s.request[:0], kind, flags, s.sequence, body)
	if err := s.Send(s.request); err != nil {
		return false, err
	}
	for done := false; !done; {
		b, receiveErr := s.Receive()
		if receiveErr != nil {
			return interrupted, receiveErr
		}
		for len(b) > 0 {
			var m nlsock.Message
			var next error
			if m, b, next = nlsock.Cut(b); next != nil {
				return interrupted, next
			}
			if m.Sequence != s.sequence { // of a request that was given up
				continue
			}
			interrupted = interrupted || m.Flags&unix.NLM_F_DUMP_INTR != 0
			switch m.Kind {
			case answer:
				if bad := add(m.Body); err == nil {
					err = bad
				}
				done = done || flags&unix.NLM_F_DUMP == 0
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				outcome, bad := outcomeOf(m)
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

// dump asks for objects, and hands the body of each one's message to add, which
// may not keep it. restart is called first, and again when the kernel says that
// the dump was interrupted. A table that is not there is empty.
func (s *socket) dump(kind uint16, body []byte, answer uint16, restart func(), add func([]byte) error) error {
	for range nlsock.DumpTries {
		restart()
		interrupted, err := s.ask(kind, unix.NLM_F_DUMP, body, answer, add)
		switch {
		case errors.Is(err, unix.ENOENT):
			return nil
		case err != nil || !interrupted:
			return err
		}
	}
	return nlsock.ErrInterrupted
}

// outcomeOf reads NLMSG_ERROR, struct nlmsgerr, and NLMSG_DONE, which has an errno
// alone: nil for a success, or the errno, with the kernel's own words where
// there are any. err says that it cannot be read.
func outcomeOf(m nlsock.Message) (outcome, err error) {
	skip := 4
	if m.Kind == unix.NLMSG_ERROR {
		skip += unix.SizeofNlMsghdr
	}
	if len(m.Body) < skip {
		return nil, nlsock.ErrShort
	}
	errno := int32(binary.NativeEndian.Uint32(m.Body))
	if errno == 0 {
		return nil, nil
	}
	outcome = unix.Errno(-errno)
	if m.Flags&unix.NLM_F_ACK_TLVS == 0 {
		return outcome, nil
	}
	if m.Kind == unix.NLMSG_ERROR && m.Flags&unix.NLM_F_CAPPED == 0 { // the whole request was sent back
		skip = 4 + aligned(int(binary.NativeEndian.Uint32(m.Body[4:])))
	}
	if skip < 0 || skip > len(m.Body) {
		return nil, nlsock.ErrShort
	}
	_, err = eachAttribute(m.Body[skip:], func(a attribute) bool {
		if a.kind == unix.NLMSGERR_ATTR_MSG {
			outcome = fmt.Errorf("%w: %s", outcome, unix.ByteSliceToString(a.value))
		}
		return true
	})
	return outcome, err
}
