package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/nlsock"
)

// Closed tells what became of TCP connections that their programs had closed.
type Closed struct {
	Ended int
	Left  int   // those that are there still
	Why   error // why they are, or why the kernel cannot be asked
}

// EndClosed ends the TCP connections with a mark that their programs have closed, in
// this thread's network namespace: in FIN_WAIT, CLOSING, LAST_ACK or TIME_WAIT, and no
// file leads to them. So Give does not find them, nobody can set their mark, and they
// send for minutes: data that was not sent yet, FIN, acknowledgements.
//
// It is called once nothing gets that mark any more, and before the mark leads
// elsewhere: the peer gets a RST, by the old way. It takes CAP_NET_ADMIN, and 5 s at
// most. That the kernel ends no connections (CONFIG_INET_DIAG, CONFIG_INET_DIAG_DESTROY)
// is no error: it stands in Why.
func EndClosed(ctx context.Context, m fwmark.Mark) (Closed, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s, err := nlsock.Open(unix.NETLINK_SOCK_DIAG)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return Closed{Why: fmt.Errorf("the kernel has no sock_diag: %w", err)}, nil
	}
	if err != nil {
		return Closed{}, fmt.Errorf("open sock_diag: %w", err)
	}
	defer s.Close()
	d := diag{Socket: s, ctx: ctx}
	e := ender{
		list:    func() ([]closed, error) { return d.closed(m) },
		destroy: d.destroy,
		ended:   map[uint64]bool{},
	}
	what, err := e.all()
	if err != nil {
		return what, fmt.Errorf("end TCP connections with mark %s that their programs have closed: %w", m, err)
	}
	return what, nil
}

// closed is such a connection.
type closed struct {
	family uint8
	waits  bool     // it is in TIME_WAIT, or in FIN_WAIT2 and nothing but a timer is left
	id     [48]byte // struct inet_diag_sockid
}

// cookie is the kernel's number of it, which no other one gets.
func (c closed) cookie() uint64 { return binary.NativeEndian.Uint64(c.id[40:]) }

// ender ends them.
type ender struct {
	list    func() ([]closed, error)
	destroy func(closed) error
	ended   map[uint64]bool // as the kernel says
	why     error
}

// endRounds bounds how often they are listed: they change their state meanwhile.
const endRounds = 4

var errEndsNone = errors.New("this kernel, as older ones, ends none that their programs have closed")

func (e *ender) all() (Closed, error) {
	for first, rounds := true, 0; rounds < endRounds; rounds++ {
		list, err := e.list()
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
			return Closed{Why: fmt.Errorf("the kernel does not list TCP connections (CONFIG_INET_DIAG): %w", err)}, nil
		}
		if err != nil {
			return e.sum(nil), err
		}
		list = e.endable(list)
		if len(list) == 0 {
			break
		}
		if first && !list[0].waits {
			list = list[:1]
		}
		first = false
		if on, err := e.these(list); !on || err != nil {
			if err != nil {
				return e.sum(nil), err
			}
			break
		}
	}
	left, err := e.list()
	return e.sum(left), err
}

// endable returns those that the kernel may end, those that only wait last.
//
// Older kernels say that they have ended one, and have not: they drop what it had to
// send, and its timers with it, so it stays for good. So at first a single one is
// ended. Where it is there still, the others are left to their timers.
func (e *ender) endable(list []closed) []closed {
	if slices.ContainsFunc(list, func(c closed) bool { return !c.waits && e.ended[c.cookie()] }) {
		e.why = errEndsNone
	}
	slices.SortStableFunc(list, func(a, b closed) int {
		switch {
		case a.waits == b.waits:
			return 0
		case b.waits:
			return -1
		}
		return 1
	})
	if e.why != nil {
		list = slices.DeleteFunc(list, func(c closed) bool { return !c.waits })
	}
	return list
}

// these ends them. on is false where the kernel ends no more.
func (e *ender) these(list []closed) (on bool, err error) {
	for _, c := range list {
		switch err := e.destroy(c); {
		case err == nil:
			e.ended[c.cookie()] = true
		case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE): // it has come to its end meanwhile
		case errors.Is(err, unix.EOPNOTSUPP):
			if e.why == nil {
				e.why = fmt.Errorf("the kernel does not end connections (CONFIG_INET_DIAG_DESTROY): %w", err)
			}
			return false, nil
		default:
			return false, err
		}
	}
	return true, nil
}

func (e *ender) sum(left []closed) Closed {
	for _, c := range left {
		delete(e.ended, c.cookie())
	}
	what := Closed{Ended: len(e.ended), Left: len(left)}
	if what.Left > 0 {
		if what.Why = e.why; e.why == nil {
			what.Why = errors.New("they came up again and again")
		}
	}
	return what
}

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
	requestSize  = 56 // struct inet_diag_req_v2
	messageSize  = 72 // struct inet_diag_msg
	timerOfWaits = 3  // its idiag_timer
)

// closedStates are those of a connection that its program has closed, as bits. One
// that nobody has accepted yet has no file either, and is in none of them.
const closedStates = 1<<4 | 1<<5 | 1<<6 | 1<<9 | 1<<11 // FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, CLOSING

// closed returns those with a mark, of both families.
func (d *diag) closed(m fwmark.Mark) ([]closed, error) {
	var list []closed
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		err := d.ask(unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, listRequest(family, m), func(b []byte) error {
			if len(b) < messageSize {
				return nlsock.ErrShort
			}
			if inode := binary.NativeEndian.Uint32(b[68:]); inode == 0 {
				list = append(list, closed{family: b[0], waits: b[2] == timerOfWaits, id: [48]byte(b[4:])})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// listRequest asks for the sockets whose mark m selects: the kernel compares, and a
// server that has a hundred thousand others is not to send them all.
func listRequest(family uint8, m fwmark.Mark) []byte {
	b := make([]byte, requestSize, requestSize+16)
	b[0], b[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], closedStates)
	b = binary.NativeEndian.AppendUint16(b, 4+12)
	b = binary.NativeEndian.AppendUint16(b, bytecode)
	b = append(b, markCond, 12)                      // struct inet_diag_bc_op: where it is so, to the end
	b = binary.NativeEndian.AppendUint16(b, 12+4)    // else past it: not selected
	b = binary.NativeEndian.AppendUint32(b, m.Value) // struct inet_diag_markcond
	return binary.NativeEndian.AppendUint32(b, m.Mask)
}

// destroy ends one, unless another one has its addresses and ports meanwhile.
func (d *diag) destroy(c closed) error {
	b := make([]byte, requestSize)
	b[0], b[1] = c.family, unix.IPPROTO_TCP
	copy(b[8:], c.id[:])
	return d.ask(sockDestroy, unix.NLM_F_ACK, b, func([]byte) error { return nil })
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
