package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// dumpTries bounds how often a dump is begun again because something changed
// in the middle.
const dumpTries = 10

var errInterrupted = errors.New("something changed in the middle of each of the kernel's answers")

// dump asks for all objects of a kind, in family inet, and hands each one of
// our table to add, once the whole answer is known to be good. What went since it
// was listed has none.
func (c *Client) dump(kind uint16, request []byte, add func(message) error) error {
	for range dumpTries {
		answers, interrupted, err := c.ask(kind, request)
		switch {
		case errors.Is(err, unix.ENOENT):
			return nil
		case errors.Is(err, unix.EINTR), err == nil && interrupted:
			continue
		case err != nil:
			return err
		}
		for len(answers) > 0 {
			var body []byte
			if _, body, answers, err = cut(answers); err == nil {
				err = handed(body, add)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return errInterrupted
}

// ask asks for a dump, and returns the messages that answer it. interrupted says
// that something changed meanwhile.
func (c *Client) ask(kind uint16, request []byte) (answers []byte, interrupted bool, err error) {
	c.sequence++
	b := batch{count: c.sequence}
	b.add(kind, unix.NLM_F_DUMP, request)
	if err := unix.Sendto(c.fd, b.messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, false, err
	}
	for {
		datagram, err := c.receive()
		if err != nil {
			return nil, interrupted, err
		}
		for len(datagram) > 0 {
			whole := datagram
			h, body, rest, err := cut(datagram)
			if err != nil {
				return nil, interrupted, err
			}
			datagram = rest
			if h.Seq != c.sequence { // of a dump that was given up
				continue
			}
			interrupted = interrupted || h.Flags&unix.NLM_F_DUMP_INTR != 0
			if h.Type != unix.NLMSG_DONE && h.Type != unix.NLMSG_ERROR {
				answers = append(answers, whole[:len(whole)-len(rest)]...)
				continue
			}
			if len(body) < 4 {
				return nil, interrupted, errShort
			}
			if errno := int32(binary.NativeEndian.Uint32(body)); errno < 0 {
				return nil, interrupted, unix.Errno(-errno)
			}
			return answers, interrupted, nil
		}
	}
}

// receive takes one datagram in, which the next one overwrites.
func (c *Client) receive() ([]byte, error) {
	for {
		n, from, err := unix.Recvfrom(c.fd, c.answers, unix.MSG_TRUNC)
		sender, _ := from.(*unix.SockaddrNetlink)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return nil, fmt.Errorf("no answer of the kernel within %s", answerTime)
		case err != nil:
			return nil, err
		case n > len(c.answers):
			return nil, fmt.Errorf("answer of %d bytes, there is room for %d", n, len(c.answers))
		case sender != nil && sender.Pid == 0: // the kernel
			return c.answers[:n], nil
		}
	}
}

// cut cuts the first message off.
func cut(b []byte) (h unix.NlMsghdr, body, rest []byte, err error) {
	if len(b) < unix.NLMSG_HDRLEN {
		return h, nil, nil, errShort
	}
	h = unix.NlMsghdr{Len: binary.NativeEndian.Uint32(b), Type: binary.NativeEndian.Uint16(b[4:]), Flags: binary.NativeEndian.Uint16(b[6:]), Seq: binary.NativeEndian.Uint32(b[8:])}
	if h.Len < unix.NLMSG_HDRLEN || uint64(h.Len) > uint64(len(b)) {
		return h, nil, nil, fmt.Errorf("answer of %d bytes, %d are there", h.Len, len(b))
	}
	const align = unix.NLMSG_ALIGNTO
	return h, b[unix.NLMSG_HDRLEN:h.Len], b[min(len(b), (int(h.Len)+align-1)/align*align):], nil
}
