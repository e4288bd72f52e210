package flows

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// limit bounds the whole of Enter, which takes some 0.2 s for 10,000
// connections.
const limit = 10 * time.Second

// Enter makes conntrack know each TCP connection of the client's network
// namespace, and returns how many it did not know. An entry that is
// there already stays as it is, its mark too. It takes CAP_NET_ADMIN, and at
// most 10 s.
//
// It is called twice before the chain that marks comes, around what turns
// conntrack on. The second call is for connections that came about between the
// first one and conntrack. The first one is for those that carry a packet
// between conntrack and the second one: conntrack would take up such a
// connection by itself, as one that was never answered, and a stateful firewall
// that comes later would drop what the same side sends next.
//
// The same holds whenever the last rule that needs conntrack was gone, as after
// `nft flush ruleset`: the entries stay, but what began since is not among them.
//
// An error says that connections may be missing, and how many where others
// were entered; where the kernel has no sock_diag or no ctnetlink it is
// errors.ErrUnsupported, and nothing was done.
func (c *Client) Enter(ctx context.Context) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	diag, err := dial(ctx, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, fmt.Errorf("open sock_diag: %w", explained(err, "sock_diag"))
	}
	defer diag.close()
	table, done, err := c.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { done(err) }()

	listening := ports{}
	if err := diag.sockets(1<<listen, func(s socket) error {
		listening[s.local.Port()] = true
		return nil
	}); err != nil {
		return 0, fmt.Errorf("read listening TCP sockets: %w", explained(err, "sock_diag for TCP"))
	}
	e := entries{table: table}
	idle := idleTime()
	err = diag.sockets(running, func(s socket) error {
		f, ok := flowOf(s, listening, idle)
		if !ok {
			return nil
		}
		return e.add(f)
	})
	if err != nil {
		err = fmt.Errorf("read running TCP connections: %w", err)
	}
	return e.entered, errors.Join(err, e.flush(), e.failure())
}

// sockets hands the TCP sockets in any of the states, which are bits, to add.
func (c *conn) sockets(states uint32, add func(socket) error) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		err := c.dump(unix.SOCK_DIAG_BY_FAMILY, encodeRequest(family, states), func(b []byte) error {
			s, err := decodeSocket(b)
			if err != nil {
				return err
			}
			return add(s)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

const (
	// idleFile says how long conntrack keeps an established connection
	// without packets, in seconds, per network namespace.
	idleFile = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established"
	// idleDefault is the kernel's own, 5 days.
	idleDefault = 432000
)

// idleTime is in seconds. The kernel goes back to its own with each packet, so
// what cannot be read is not worth failing for.
func idleTime() uint32 {
	text, err := os.ReadFile(idleFile)
	if err != nil {
		return idleDefault
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 31)
	if err != nil || n == 0 {
		return idleDefault
	}
	return uint32(n)
}

// entries sends connections to conntrack, many at a time, so that no more of
// them than that are ever in memory.
type entries struct {
	table    *conn
	flows    []flow
	requests []netlink.Message

	entered, failed int
	first           error // of the failures
}

// add returns an error only where no more can be entered.
func (e *entries) add(f flow) error {
	data, err := encodeFlow(f)
	if err != nil {
		e.fail(f, err)
		return nil
	}
	e.flows = append(e.flows, f)
	e.requests = append(e.requests, netlink.Message{
		// Without Excl, what is there would be changed, and lose its mark.
		Header: netlink.Header{Type: kindOf(nl.IPCTNL_MSG_CT_NEW), Flags: netlink.Create | netlink.Excl},
		Data:   data,
	})
	if len(e.requests) < batchSize {
		return nil
	}
	return e.flush()
}

func (e *entries) flush() error {
	if len(e.requests) == 0 {
		return nil
	}
	outcomes, err := e.table.execute(e.requests)
	if err != nil {
		err = fmt.Errorf("enter %d TCP connections into conntrack: %w", len(e.requests), err)
	}
	for i, outcome := range outcomes {
		switch {
		case outcome == nil:
			e.entered++
		case !errors.Is(outcome, unix.EEXIST):
			e.fail(e.flows[i], outcome)
		}
	}
	e.flows, e.requests = e.flows[:0], e.requests[:0]
	return err
}

func (e *entries) fail(f flow, err error) {
	if e.failed == 0 {
		e.first = fmt.Errorf("%s: %w", f, err)
	}
	e.failed++
}

// failure is all single failures as one error.
func (e *entries) failure() error {
	if e.failed == 0 {
		return nil
	}
	return fmt.Errorf("enter into conntrack: %d TCP connections failed, the first is %w", e.failed, e.first)
}
