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

// Closed tells what became of TCP connections that their programs had closed, and of
// flows of MPTCP.
type Closed struct {
	Ended int
	Left  int   // those that are there still
	Why   error // why they are, or why the kernel cannot be asked
}

// EndClosed ends the TCP connections with a mark that their programs have closed, in
// this thread's network namespace: in FIN_WAIT, CLOSING, LAST_ACK or TIME_WAIT, and no
// file leads to them. So Give does not find them, nobody can set their mark, and they
// send for minutes: data that was not sent yet, FIN, acknowledgements. And it ends the
// flows of MPTCP with the mark: Give has given another one to those that can have it.
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
	var sum Closed
	for _, list := range []func(fwmark.Mark) ([]closed, error){d.closed, d.flows} {
		e := ender{
			list:    func() ([]closed, error) { return list(m) },
			destroy: d.destroy,
			ended:   map[uint64]bool{},
		}
		what, err := e.all()
		sum = Closed{Ended: sum.Ended + what.Ended, Left: sum.Left + what.Left, Why: errors.Join(sum.Why, what.Why)}
		if err != nil {
			return sum, fmt.Errorf("end TCP connections with mark %s that their programs have closed: %w", m, err)
		}
	}
	return sum, nil
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

// closedStates are those of a connection that its program has closed, as bits. One
// that nobody has accepted yet has no file either, and is in none of them.
const closedStates = 1<<4 | 1<<5 | 1<<6 | 1<<9 | 1<<11 // FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, CLOSING

// closed returns those with a mark.
func (d *diag) closed(m fwmark.Mark) ([]closed, error) {
	return d.list(closedStates, m, listed.isClosed)
}

func (l listed) isClosed() bool { return closedStates>>l.state&1 != 0 && l.inode == 0 }
