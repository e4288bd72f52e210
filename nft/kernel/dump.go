package kernel

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/nlsock"
)

// dump asks for all objects of a kind, in family inet, and hands each one of
// our table to add, once the whole answer is known to be good. What went since it
// was listed has none.
func (c *Client) dump(kind uint16, request []byte, add func(message) error) error {
	for range nlsock.DumpTries {
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
			var m nlsock.Message
			if m, answers, err = nlsock.Cut(answers); err == nil {
				err = handed(m.Body, add)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return nlsock.ErrInterrupted
}

// ask asks for a dump, and returns the messages that answer it. interrupted says
// that something changed meanwhile.
func (c *Client) ask(kind uint16, request []byte) (answers []byte, interrupted bool, err error) {
	c.sequence++
	b := batch{count: c.sequence}
	b.add(kind, unix.NLM_F_DUMP, request)
	if err := c.socket.Send(b.messages); err != nil {
		return nil, false, err
	}
	for {
		datagram, err := c.socket.Receive()
		if err != nil {
			return nil, interrupted, err
		}
		for len(datagram) > 0 {
			whole := datagram
			m, rest, err := nlsock.Cut(datagram)
			if err != nil {
				return nil, interrupted, err
			}
			datagram = rest
			if m.Sequence != c.sequence { // of a dump that was given up
				continue
			}
			interrupted = interrupted || m.Flags&unix.NLM_F_DUMP_INTR != 0
			if m.Kind != unix.NLMSG_DONE && m.Kind != unix.NLMSG_ERROR {
				answers = append(answers, whole[:len(whole)-len(rest)]...)
				continue
			}
			if len(m.Body) < 4 {
				return nil, interrupted, nlsock.ErrShort
			}
			if errno := int32(binary.NativeEndian.Uint32(m.Body)); errno < 0 {
				return nil, interrupted, unix.Errno(-errno)
			}
			return answers, interrupted, nil
		}
	}
}
