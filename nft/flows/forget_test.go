package flows

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
)

// TestForget: of what this host sent by UDP without a mark, entries go whose
// socket is gone, or is of a pinned cgroup. Those of others, with a mark or translated,
// stay.
func TestForget(t *testing.T) {
	t.Parallel()
	l := newLink(t)
	l.host.nft(`table inet others {
	chain out {
		type filter hook output priority filter
		ct state new udp dport 9 ct mark set 0x2005
	}
	chain from-here {
		type nat hook postrouting priority srcnat
		udp dport 8 masquerade to :50000-50009
	}
}
`)
	var ports [2]int // of the socket that is closed, and of the one that is not
	var sockets [2]net.PacketConn
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	l.host.do(func() {
		for i := range sockets {
			c, err := net.ListenPacket("udp4", "0.0.0.0:0")
			if err != nil {
				note(err)
				return
			}
			sockets[i], ports[i] = c, c.LocalAddr().(*net.UDPAddr).Port
			for _, port := range []int{7, 8, 9} {
				_, err = c.WriteTo([]byte("x"), &net.UDPAddr{IP: net.ParseIP(far4), Port: port})
				note(err)
			}
		}
	})
	must(t, errors.Join(errs...))
	must(t, sockets[0].Close())
	defer sockets[1].Close()
	left := func(p Pinned) (list [][2]int) {
		t.Helper()
		l.host.do(func() {
			var c Client
			defer c.Close()
			for range 2 { // by the same socket
				list, err := c.Unmarked(context.Background(), p)
				note(err)
				_, err = c.Forget(context.Background(), list)
				note(err)
			}
		})
		must(t, errors.Join(errs...))
		for _, f := range l.host.table() {
			if f.Forward.Protocol == unix.IPPROTO_UDP {
				list = append(list, [2]int{slices.Index(ports[:], int(f.Forward.SrcPort)), int(f.Forward.DstPort)})
			}
		}
		slices.SortFunc(list, func(a, b [2]int) int { return (a[0]-b[0])*100 + a[1] - b[1] })
		return list
	}
	if got, want := left(Pinned{Bits: 0xffff}), [][2]int{{0, 8}, {0, 9}, {1, 7}, {1, 8}, {1, 9}}; !slices.Equal(got, want) {
		t.Errorf("with sockets of others: left are %v, want %v", got, want)
	}
	var own uint64 // the cgroup of this test
	l.host.do(func() {
		c, err := dial(context.Background(), unix.NETLINK_SOCK_DIAG)
		if err != nil {
			note(err)
			return
		}
		defer c.close()
		note(c.eachUDP(func(s socket, cgroup uint64) {
			if int(s.local.Port()) == ports[1] {
				own = cgroup
			}
		}))
	})
	must(t, errors.Join(errs...))
	if own == 0 {
		t.Fatal("the kernel does not say what cgroup a socket is of")
	}
	if got, want := left(Pinned{Bits: 0xffff, Cgroups: map[uint64]bool{own: true}}), [][2]int{{0, 8}, {0, 9}, {1, 8}, {1, 9}}; !slices.Equal(got, want) {
		t.Errorf("with a socket that is pinned: left are %v, want %v", got, want)
	}
}

// TestSlow: where conntrack does not tell all of UDP in time, it is not asked again at once.
func TestSlow(t *testing.T) {
	l := newLink(t)
	l.host.do(func() {
		var c Client
		defer c.Close()
		over, cancel := context.WithDeadline(context.Background(), time.Now())
		defer cancel()
		if _, err := c.Unmarked(over, Pinned{}); err == nil {
			t.Error("no error after the deadline")
		}
		if _, err := c.Marked(over, fwmark.Mark{Value: 1, Mask: 1}); err == nil {
			t.Error("no error after the deadline")
		}
		_, err := c.Marked(context.Background(), fwmark.Mark{Value: 1, Mask: 1})
		if err == nil || !strings.Contains(err.Error(), "takes longer than 10s") {
			t.Errorf("asked again at once: %v", err)
		}
	})
}
