package flows

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
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
		if _, err := c.Marked(over, fwmark.Mark{Value: 1, Mask: 1}); err == nil || !c.slow.IsZero() {
			t.Errorf("after the caller's own deadline: %v, slow since %s", err, c.slow)
		}
		c.slow = time.Now()
		_, err := c.Marked(context.Background(), fwmark.Mark{Value: 1, Mask: 1})
		if err == nil || !strings.Contains(err.Error(), "did not tell in time") {
			t.Errorf("asked again at once: %v", err)
		}
	})
}

// TestAnswersThatComeFirst: what conntrack meets first of a flow may be an answer. What a
// pinned socket is connected to it has asked; of another one that is guessed.
func TestAnswersThatComeFirst(t *testing.T) {
	t.Parallel()
	l := newLink(t)
	l.host.nft("table inet others {\n\tchain in {\n\t\ttype filter hook input priority filter\n\t\tct state new accept\n\t}\n}\n")
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	var open []net.PacketConn
	listen := func(address string) net.PacketConn {
		c, err := net.ListenPacket("udp4", address)
		note(err)
		open = append(open, c)
		return c
	}
	var connected, free int
	l.host.do(func() {
		c, err := net.Dial("udp4", far4+":7")
		note(err)
		open = append(open, c.(*net.UDPConn))
		connected, free = c.LocalAddr().(*net.UDPAddr).Port, listen("0.0.0.0:0").LocalAddr().(*net.UDPAddr).Port
	})
	l.far.do(func() {
		c := listen(far4 + ":7")
		for _, port := range []int{connected, free} {
			_, err := c.WriteTo([]byte("x"), &net.UDPAddr{IP: net.ParseIP(host4), Port: port})
			note(err)
		}
	})
	must(t, errors.Join(errs...))
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	own := map[uint64]bool{}
	l.host.do(func() {
		c, err := dial(context.Background(), unix.NETLINK_SOCK_DIAG)
		note(err)
		defer c.close()
		note(c.eachUDP(func(s socket, cgroup uint64) { own[cgroup] = true }))
	})
	must(t, errors.Join(errs...))
	ends := func(port int) Ends {
		return Ends{netip.MustParseAddrPort(fmt.Sprintf("%s:%d", host4, port)), netip.MustParseAddrPort(far4 + ":7")}
	}
	for name, c := range map[string]struct {
		pinned Pinned
		want   map[Ends]bool // whether it is guessed
	}{
		"all was met":        {Pinned{}, map[Ends]bool{}},
		"what was asked":     {Pinned{Asked: map[Ends]bool{ends(free): true}}, map[Ends]bool{ends(connected): false}},
		"nothing was asked":  {Pinned{Asked: map[Ends]bool{}}, map[Ends]bool{ends(connected): false, ends(free): true}},
		"that is not known":  {Pinned{Lost: true}, map[Ends]bool{ends(connected): true}},
		"of others' cgroups": {Pinned{Lost: true, Cgroups: map[uint64]bool{}}, map[Ends]bool{}},
	} {
		c.pinned.Bits = 0xffff
		if c.pinned.Cgroups == nil {
			c.pinned.Cgroups = own
		}
		got := map[Ends]bool{}
		l.host.do(func() {
			var client Client
			defer client.Close()
			list, err := client.Unmarked(context.Background(), c.pinned)
			note(err)
			for _, e := range list {
				got[e.Ends] = e.Guessed
			}
		})
		if !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	must(t, errors.Join(errs...))
}
