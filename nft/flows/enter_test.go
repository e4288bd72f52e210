package flows

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// TestEntries looks at what conntrack has: who opened it, for how long.
func TestEntries(t *testing.T) {
	t.Parallel()
	l := newLink(t)
	l.host.script("sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established=1000")
	pairs := l.pairs(t)
	l.host.mustEnter()
	if n := l.host.mustEnter(); n != 0 {
		t.Errorf("%d connections entered for the second time", n)
	}
	opener := map[string]bool{}
	table := l.host.table()
	for _, f := range table {
		opener[fmt.Sprintf("%s %d", f.Forward.SrcIP, f.Forward.SrcPort)] = true
		if f.TimeOut > 1000 || f.TimeOut < 900 || f.Mark != 0 || f.Zone != 0 {
			t.Errorf("entry %s, timeout %d", f, f.TimeOut)
		}
	}
	if len(table) != len(pairs) {
		t.Errorf("%d entries, want %d", len(table), len(pairs))
	}
	for _, p := range pairs {
		from := p.host
		if p.host.LocalAddr().(*net.TCPAddr).Port/10 == 700 {
			from = p.far
		}
		a := from.LocalAddr().(*net.TCPAddr).AddrPort()
		if who := fmt.Sprintf("%s %d", a.Addr().Unmap(), a.Port()); !opener[who] {
			t.Errorf("%s: no entry says that %s opened it: %v", p.name, who, opener)
		}
	}
	if text := l.host.command("", "cat", "/proc/thread-self/net/nf_conntrack"); regexp.MustCompile("UNREPLIED").MatchString(text) {
		t.Errorf("entries:\n%s", text)
	}
}

// forget empties conntrack.
func (l *link) forget(t testing.TB) {
	t.Helper()
	l.host.flush()
	if n := len(l.host.table()); n != 0 {
		t.Fatalf("%d entries are left", n)
	}
}

// TestOthersEntriesStay: those with a mark, and those that translate addresses
// or ports, where the socket's own are only one side's.
func TestOthersEntriesStay(t *testing.T) {
	t.Parallel()
	l := newLink(t)
	l.host.nft(`table inet others {
	chain out {
		type filter hook output priority filter
		ct mark set 0x77
	}
	chain in {
		type filter hook input priority filter
		ct mark set 0x77
	}
	chain from-far {
		type nat hook prerouting priority dstnat
		tcp dport 7002 redirect to :7000
	}
	chain from-here {
		type nat hook output priority -100
		tcp dport 7003 redirect to :7000
	}
	chain source {
		type nat hook postrouting priority srcnat
		oifname "up1" meta l4proto tcp masquerade to :20000-20100
	}
}`)
	pairs := l.pairs(t)
	c := l.far.dial(host4 + ":7002")
	pairs = append(pairs, pair{"redirected", accepted(t, l.hostEar), c})
	local := l.host.dial("127.0.0.1:7003")
	pairs = append(pairs, pair{"redirected loopback", accepted(t, l.hostEar), local})
	describe := func() map[string]string {
		m := map[string]string{}
		for _, f := range l.host.table() {
			m[fmt.Sprintf("%v %v", f.Forward, f.Reverse)] = fmt.Sprintf("mark %#x, %v", f.Mark, f.ProtoInfo)
			if f.Mark != 0x77 {
				t.Errorf("mark %#x of %s", f.Mark, f)
			}
		}
		return m
	}
	before := describe()
	if n := l.host.mustEnter(); n != 0 {
		t.Errorf("%d connections entered, and all were known", n)
	}
	after := describe()
	if len(before) != len(pairs) || fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("before:\n%v\nafter:\n%v", before, after)
	}
	for _, p := range pairs {
		p.lives(t, true)
	}
}

// TestMany has 2,000 connections, and says how long they took.
func TestMany(t *testing.T) {
	l := newLink(t)
	l.host.nft(conntrackOn)
	l.many(t, 2000)
	l.forget(t)
	begun := time.Now()
	n := l.host.mustEnter()
	took := time.Since(begun)
	t.Logf("%d connections in %s", n, took.Round(100*time.Microsecond))
	if n != 2000 || took > 2*time.Second {
		t.Errorf("%d of 2000 connections entered, in %s", n, took)
	}
	begun = time.Now()
	n = l.host.mustEnter()
	t.Logf("again, all known: %s", time.Since(begun).Round(100*time.Microsecond))
	if n != 0 || len(l.host.table()) != 2000 {
		t.Errorf("%d entered again, %d entries", n, len(l.host.table()))
	}
}

// many makes connections from the host.
func (l *link) many(t testing.TB, count int) {
	t.Helper()
	accept := make(chan error, 1)
	go func() {
		for range count {
			c, err := l.farEar.Accept()
			if err != nil {
				accept <- err
				return
			}
			t.Cleanup(func() { c.Close() })
		}
		accept <- nil
	}()
	var conns []net.Conn
	var err error
	l.host.do(func() {
		for range count {
			var c net.Conn
			if c, err = net.DialTimeout("tcp", far4+":"+servicePort, patience); err != nil {
				return
			}
			conns = append(conns, c)
		}
	})
	t.Cleanup(func() {
		for _, c := range conns {
			c.Close()
		}
	})
	must(t, err)
	must(t, <-accept)
}

func BenchmarkEnter(b *testing.B) {
	for _, count := range []int{2000, 9000} {
		b.Run(strconv.Itoa(count), func(b *testing.B) {
			l := newLink(b)
			l.host.nft(conntrackOn)
			l.many(b, count)
			for range b.N {
				b.StopTimer()
				l.forget(b)
				b.StartTimer()
				if n := l.host.mustEnter(); n != count {
					b.Fatalf("%d entered", n)
				}
			}
		})
	}
}
