package kernel

import (
	"context"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/nlsock"
)

// diag is a socket of sock_diag(7).
type diag struct {
	*nlsock.Socket
	ctx      context.Context
	sequence uint32
}

// linux/inet_diag.h and linux/sock_diag.h.
const (
	sockDestroy  = 21
	bytecode     = 1  // INET_DIAG_REQ_BYTECODE
	markCond     = 10 // INET_DIAG_BC_MARK_COND
	extended     = 2  // INET_DIAG_INFO, and with it what the protocol above TCP tells
	markOfSocket = 15 // INET_DIAG_MARK
	ulpInfo      = 19 // INET_DIAG_ULP_INFO
	requestSize  = 56 // struct inet_diag_req_v2
	messageSize  = 72 // struct inet_diag_msg
	timerOfWaits = 3  // its idiag_timer
)

// request asks for TCP sockets: for all in some states, or for the one with an id.
func request(family uint8, states uint32, id [48]byte) []byte {
	b := make([]byte, 8, requestSize+16)
	b[0], b[1], b[2] = family, unix.IPPROTO_TCP, 1<<(extended-1)
	binary.NativeEndian.PutUint32(b[4:], states)
	return append(b, id[:]...)
}

// listRequest asks for those whose mark m selects: the kernel compares, and a server
// that has a hundred thousand others is not to send them all.
func listRequest(family uint8, states uint32, m fwmark.Mark) []byte {
	b := request(family, states, [48]byte{})
	b = binary.NativeEndian.AppendUint16(b, 4+12)
	b = binary.NativeEndian.AppendUint16(b, bytecode)
	b = append(b, markCond, 12)                      // struct inet_diag_bc_op: where it is so, to the end
	b = binary.NativeEndian.AppendUint16(b, 12+4)    // else past it: not selected
	b = binary.NativeEndian.AppendUint32(b, m.Value) // struct inet_diag_markcond
	return binary.NativeEndian.AppendUint32(b, m.Mask)
}

// listed is a TCP socket, as the kernel lists it.
type listed struct {
	closed
	state      uint8
	inode      uint32 // 0: no file leads to it
	attributes []byte
}

// list returns the TCP sockets in some states with a mark, of both families, that keep
// lets pass. It may not keep their attributes.
func (d *diag) list(states uint32, m fwmark.Mark, keep func(listed) bool) ([]closed, error) {
	var list []closed
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		err := d.ask(unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, listRequest(family, states, m), func(b []byte) error {
			if len(b) < messageSize {
				return nlsock.ErrShort
			}
			l := listed{
				closed: closed{family: b[0], waits: b[2] == timerOfWaits, id: [48]byte(b[4:])},
				state:  b[1], inode: binary.NativeEndian.Uint32(b[68:]), attributes: b[messageSize:],
			}
			if keep(l) {
				list = append(list, l.closed)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// attribute returns the value of the first attribute of a kind; nil where there is
// none, or what there is has been cut off.
func attribute(b []byte, kind uint16) []byte {
	const flags = unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER
	for len(b) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofNlAttr || length > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:])&^flags == kind {
			return b[unix.SizeofNlAttr:length]
		}
		b = b[min(len(b), (length+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1)):]
	}
	return nil
}

// destroy ends one, unless another one has its addresses and ports meanwhile.
func (d *diag) destroy(c closed) error {
	return d.ask(sockDestroy, unix.NLM_F_ACK, request(c.family, 0, c.id), func([]byte) error { return nil })
}

// ask sends a request, and hands the body of each answer to add, which may not keep it.
func (d *diag) ask(kind, flags uint16, body []byte, add func([]byte) error) error {
	d.sequence++
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = binary.NativeEndian.AppendUint32(b, d.sequence)
	b = binary.NativeEndian.AppendUint32(b, 0) // the kernel's port
	if err := d.Send(append(b, body...)); err != nil {
		return err
	}
	for {
		if err := context.Cause(d.ctx); err != nil {
			return err
		}
		datagram, err := d.Receive()
		if err != nil {
			return err
		}
		if done, err := d.answer(datagram, add); done || err != nil {
			return err
		}
	}
}

// answer takes one datagram in. done says that it was the last one.
func (d *diag) answer(datagram []byte, add func([]byte) error) (done bool, err error) {
	for len(datagram) > 0 {
		var m nlsock.Message
		if m, datagram, err = nlsock.Cut(datagram); err != nil {
			return false, err
		}
		switch {
		case m.Sequence != d.sequence: // of a request that was given up
		case m.Kind == unix.NLMSG_ERROR || m.Kind == unix.NLMSG_DONE:
			if len(m.Body) < 4 {
				return false, nlsock.ErrShort
			}
			if errno := int32(binary.NativeEndian.Uint32(m.Body)); errno != 0 {
				return true, unix.Errno(-errno)
			}
			return true, nil
		default:
			if err := add(m.Body); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}
