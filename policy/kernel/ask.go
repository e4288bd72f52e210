package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// askSize bounds the questions in one datagram: the kernel answers all of them
// before send(2) comes back, and answers must fit the receive buffer.
const askSize = 64

// Ask returns what the kernel says of each packet, by its own look-up
// (RTM_GETROUTE). Nothing is sent. What it refuses is no error.
func (c *Client) Ask(packets []policy.Packet) ([]policy.Answer, error) {
	answers := make([]policy.Answer, len(packets))
	for begin := 0; begin < len(packets); begin += askSize {
		end := min(begin+askSize, len(packets))
		if err := c.askSome(packets[begin:end], answers[begin:end]); err != nil {
			return nil, fmt.Errorf("look up routes: %w", err)
		}
	}
	return answers, nil
}

func (c *Client) askSome(packets []policy.Packet, answers []policy.Answer) error {
	s := c.socket
	first := s.sequence + 1
	s.request = s.request[:0]
	for i := range packets {
		begin := len(s.request)
		s.request = endMessage(appendQuestion(beginMessage(s.request, unix.RTM_GETROUTE, 0, first+uint32(i)), &packets[i]), begin)
	}
	s.sequence += uint32(len(packets))
	if err := s.send(); err != nil {
		return err
	}
	for left := len(packets); left > 0; {
		b, err := s.receive()
		if err != nil {
			return err
		}
		for len(b) > 0 {
			var m message
			if m, b, err = nextMessage(b); err != nil {
				return err
			}
			i := m.sequence - first
			if i >= uint32(len(answers)) {
				continue
			}
			left--
			if answers[i], err = c.answerOf(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// answerOf reads one answer: a route, or an error.
func (c *Client) answerOf(m message) (a policy.Answer, err error) {
	switch m.kind {
	case unix.RTM_NEWROUTE:
		d := routeDecoder{device: c.device}
		err = d.decode(m.body, func(r *policy.Route) { a.Device = r.Device })
		return a, err
	case unix.NLMSG_ERROR:
		refused, err := m.outcome()
		if err != nil {
			return a, err
		}
		if !errors.As(refused, &a.Errno) {
			a.Errno = unix.ENETUNREACH
		}
		return a, nil
	}
	return a, fmt.Errorf("answer of kind %d", m.kind)
}

func appendQuestion(b []byte, p *policy.Packet) []byte {
	var from byte
	if p.Src.IsValid() {
		from = byte(p.Src.BitLen())
	}
	b = append(b, familyNumber(fwmark.FamilyOf(p.Dst)), byte(p.Dst.BitLen()), from, 0, 0, 0, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = appendAddress(b, unix.RTA_DST, p.Dst)
	if p.Src.IsValid() {
		b = appendAddress(b, unix.RTA_SRC, p.Src)
	}
	if p.Mark != 0 {
		b = appendNumber(b, unix.RTA_MARK, p.Mark)
	}
	return b
}

// Leaves returns the device that the kernel would send an unbound packet with a
// mark by. Where it would refuse it, that is an error.
func (c *Client) Leaves(dst netip.Addr, mark uint32) (string, error) {
	answers, err := c.Ask([]policy.Packet{{Dst: dst, Mark: mark}})
	switch {
	case err != nil:
		return "", err
	case answers[0].Errno != 0:
		return "", fmt.Errorf("look up the route to %s with mark %#x: %w", dst, mark, answers[0].Errno)
	case answers[0].Device == "":
		return "", fmt.Errorf("look up the route to %s with mark %#x: its device is not known", dst, mark)
	}
	return answers[0].Device, nil
}
