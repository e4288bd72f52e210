package flows

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMark asks for connections that this host has begun, and for one that it was
// asked by; for one that is translated, and for one that conntrack has not seen. Where
// conntrack remembers nothing it is not asked.
func TestMark(t *testing.T) {
	t.Parallel()
	l := newLink(t)
	var c Client
	defer c.Close()
	type answer struct {
		mark  uint32
		known bool
	}
	of := func(protocol uint8, local, remote net.Addr) (a answer) {
		t.Helper()
		var err error
		l.host.do(func() {
			a.mark, a.known, err = c.Mark(context.Background(), protocol, portOf(local), portOf(remote))
		})
		must(t, err)
		return a
	}
	before := l.out(t, "before", l.host.dial(net.JoinHostPort(far4, servicePort)))
	if got := of(unix.IPPROTO_TCP, before.host.LocalAddr(), before.host.RemoteAddr()); got.known || c.table != nil {
		t.Errorf("without conntrack: %+v, asked: %t", got, c.table != nil)
	}
	l.host.nft(`table inet others {
	chain out {
		type filter hook output priority filter
		ct state new udp dport 9 ct mark set 0x2004
		ct state new tcp dport 7000 ct mark set 0x2005
	}
	chain in {
		type filter hook input priority filter
		ct state new ct mark set 0x2006
	}
	chain from-here {
		type nat hook postrouting priority srcnat
		udp dport 9 masquerade to :50000-50009
	}
}
`)
	for _, p := range l.pairs(t) {
		want := answer{0x2005, true}
		if strings.HasSuffix(p.name, " in") || p.name == "loopback" {
			want.mark = 0x2006
		}
		if got := of(unix.IPPROTO_TCP, p.host.LocalAddr(), p.host.RemoteAddr()); got != want {
			t.Errorf("%s: %+v, want %+v", p.name, got, want)
		}
	}
	for remote, want := range map[string]answer{far4 + ":9": {0x2004, true}, net.JoinHostPort(far6, "9"): {0x2004, true}, far4 + ":8": {0, true}} {
		var s net.Conn
		var err error
		l.host.do(func() {
			if s, err = net.Dial("udp", remote); err == nil {
				_, err = s.Write([]byte("x"))
			}
		})
		must(t, err)
		if got := of(unix.IPPROTO_UDP, s.LocalAddr(), s.RemoteAddr()); got != want {
			t.Errorf("udp to %s: %+v, want %+v", remote, got, want)
		}
		if got := of(unix.IPPROTO_TCP, s.LocalAddr(), s.RemoteAddr()); got.known {
			t.Errorf("tcp to %s: %+v", remote, got)
		}
		must(t, s.Close())
	}
}

// portOf is an address as Mark takes it.
func portOf(a net.Addr) netip.AddrPort {
	p := netip.MustParseAddrPort(a.String())
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// TestMarkCancelled: in a time that is over there is no answer, and none is waited for
// on that socket any more.
func TestMarkCancelled(t *testing.T) {
	t.Parallel()
	l := newLink(t)
	l.host.nft("table inet others { chain out { type filter hook output priority filter; ct state new ct mark set 1; }; }")
	p := l.out(t, "one", l.host.dial(net.JoinHostPort(far4, servicePort)))
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	var c Client
	defer c.Close()
	l.host.do(func() {
		_, known, err := c.Mark(ended, unix.IPPROTO_TCP, portOf(p.host.LocalAddr()), portOf(p.host.RemoteAddr()))
		if known || !errors.Is(err, context.Canceled) || c.table != nil {
			t.Errorf("known %t, %v", known, err)
		}
	})
}
