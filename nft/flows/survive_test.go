package flows

import (
	"errors"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// marking is a chain as services have it, for everything instead of some
// cgroups.
const marking = `table inet marking {
	counter marked {}
	chain out {
		type route hook output priority mangle
		ct mark 0 ct status confirmed accept
		ct state new meta mark set 0x2005 ct mark set 0x2005 counter name marked
	}
}`

// conntrackOn has a chain that no hook calls.
const conntrackOn = `table inet on {
	chain on {
		ct state new
	}
}`

// firewall is what many hosts have. Neighbour discovery must pass.
const firewall = `table inet firewall {
	chain in {
		type filter hook input priority filter; policy drop
		ct state invalid drop
		ct state established accept
		meta l4proto ipv6-icmp accept
	}
	chain out {
		type filter hook output priority filter
		ct state invalid drop
	}
}`

var counted = regexp.MustCompile(`packets (\d+)`)

// marked returns how many packets the marking chain marked.
func (n *namespace) marked() int {
	n.t.Helper()
	m := counted.FindStringSubmatch(n.command("", "nft", "list", "counter", "inet", "marking", "marked"))
	if m == nil {
		n.t.Fatal("the chain has no counter")
	}
	count, err := strconv.Atoi(m[1])
	must(n.t, err)
	return count
}

// marksNew checks that the chain is in force: a new connection is marked, so
// it does not come about.
func (l *link) marksNew(t testing.TB) {
	t.Helper()
	before := l.host.marked()
	l.host.do(func() {
		if c, err := net.DialTimeout("tcp", far4+":"+servicePort, 100*time.Millisecond); err == nil {
			t.Error("a new connection was let through")
			c.Close()
		}
	})
	if l.host.marked() == before {
		t.Error("a new connection was not marked")
	}
}

// idle is longer than any grace time that a chain could give.
const idle = 20 * time.Second

// TestConnectionsSurvive has connections of each kind, both ways, idle for
// some time after the chain came. They are idle at the same time, so that the
// test takes that time once.
func TestConnectionsSurvive(t *testing.T) {
	t.Parallel()
	cases := []*survival{
		{name: "as the program does it", steps: []string{enter, conntrackOn, enter}},
		{name: "and the far side speaks first", steps: []string{enter, conntrackOn, enter}, farFirst: true},
		{name: "and a firewall comes", steps: []string{enter, conntrackOn, enter, firewall}},
		{name: "and a firewall comes, and the far side speaks first", steps: []string{enter, conntrackOn, enter, firewall}, farFirst: true},
		{name: "conntrack is on before", steps: []string{conntrackOn, enter}},
		{name: "conntrack is not on before", steps: []string{enter}},
		{name: "conntrack is not loose", steps: []string{enter, conntrackOn, enter}, setting: "sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0"},
		{name: "and not loose before", steps: []string{conntrackOn, enter, firewall}, farFirst: true, setting: "sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0"},
	}
	for _, c := range cases {
		c.begin(t)
	}
	// Nothing tells an idle connection from one that is not yet idle for long
	// enough, but time.
	time.Sleep(idle)
	for _, c := range cases {
		t.Run(c.name, c.check)
	}
}

// enter stands for a call of Enter where other steps are rules.
const enter = "enter"

type survival struct {
	name     string
	steps    []string
	setting  string
	farFirst bool // the first packet after the idle time is the far side's

	link  *link
	pairs []pair
}

// begin makes connections and takes the steps, and has the chain come last.
func (c *survival) begin(t *testing.T) {
	t.Helper()
	l := newLink(t)
	l.host.script(c.setting)
	c.link, c.pairs = l, l.pairs(t)
	for _, p := range c.pairs {
		p.lives(t, true)
	}
	on := false
	for _, s := range c.steps {
		if s != enter {
			l.host.nft(s)
			on = true
			continue
		}
		// Once conntrack is on, a late acknowledgement makes it know a
		// connection by itself.
		if n := l.host.mustEnter(); !on && n != len(c.pairs) {
			t.Errorf("%s: %d connections entered, want %d", c.name, n, len(c.pairs))
		}
	}
	if n := len(l.host.table()); n != len(c.pairs) {
		t.Errorf("%s: %d entries, want %d", c.name, n, len(c.pairs))
	}
	l.host.nft(marking)
}

func (c *survival) check(t *testing.T) {
	for _, p := range c.pairs {
		p.lives(t, !c.farFirst)
	}
	if n := c.link.host.marked(); n != 0 {
		t.Errorf("%d packets of running connections were marked", n)
	}
	for _, p := range c.pairs {
		p.close(t)
	}
	c.link.marksNew(t)
}

// TestWithoutEnter shows what Enter is for: the same connections die.
func TestWithoutEnter(t *testing.T) {
	t.Parallel()
	l := newLink(t)
	pairs := l.pairs(t)
	l.host.nft(marking)
	for _, p := range pairs {
		if p.name == "loopback" { // the rules of table local come before ours
			continue
		}
		raw, err := p.host.SyscallConn()
		must(t, err)
		must(t, raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 500)
		}))
		must(t, err)
		_, err = p.host.Write([]byte("x"))
		must(t, err)
	}
	for _, p := range pairs {
		if p.name == "loopback" {
			continue
		}
		must(t, p.host.SetReadDeadline(time.Now().Add(patience)))
		if _, err := p.host.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v, want the connection dead", p.name, err)
		}
	}
	if l.host.marked() == 0 {
		t.Error("nothing was marked")
	}
}

// TestHalfClosed: the side that has not closed sends on.
func TestHalfClosed(t *testing.T) {
	t.Parallel()
	for _, hostCloses := range []bool{true, false} {
		l := newLink(t)
		pairs := l.pairs(t)
		for _, p := range pairs {
			p.halfClose(t, hostCloses)
		}
		if n := l.host.mustEnter(); n != len(pairs) {
			t.Errorf("%d connections entered, want %d", n, len(pairs))
		}
		// They may be idle for hours, and that cannot be waited for.
		for _, f := range l.host.table() {
			if f.TimeOut < idleDefault-60 {
				t.Errorf("kept for %d s: %s", f.TimeOut, f)
			}
		}
		l.host.nft(firewall + "\n" + marking)
		for _, p := range pairs {
			from, to := p.ends(!hostCloses)
			if err := send(from, to, bulk); err != nil {
				t.Errorf("%s, host closes first: %t: %v", p.name, hostCloses, err)
			}
			p.halfClose(t, !hostCloses)
		}
		if n := l.host.marked(); n != 0 {
			t.Errorf("%d packets were marked", n)
		}
	}
}

// TestClosedByItsProcess has a process end that left the kernel much to send.
func TestClosedByItsProcess(t *testing.T) {
	t.Parallel()
	l := newLink(t)
	p := l.out(t, "IPv4 out", l.host.dial(far4+":"+servicePort))
	sent := 0
	for {
		must(t, p.host.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
		n, err := p.host.Write(bulk)
		sent += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break // what the far side does not read fills all buffers
		}
		must(t, err)
	}
	must(t, p.host.Close())
	l.host.nft(conntrackOn)
	if n := l.host.mustEnter(); n > 1 {
		t.Errorf("%d connections entered", n) // 0: a probe was there before
	}
	l.host.nft(firewall + "\n" + marking)
	must(t, p.far.SetReadDeadline(time.Now().Add(patience)))
	got, err := io.Copy(io.Discard, p.far)
	if err != nil || got != int64(sent) {
		t.Errorf("%d bytes came of %d, then %v", got, sent, err)
	}
}

// lose drops what ends a handshake, and all that follows.
const lose = `table inet lose {
	chain out {
		type filter hook output priority filter
		tcp flags & (syn | ack) == ack drop
	}
}`

// TestHalfOpen: the last packet of a handshake comes after the firewall.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	l := newLink(t)
	l.far.nft(lose)
	for _, address := range []string{host4, host6} {
		c := l.far.dial(net.JoinHostPort(address, servicePort))
		l.host.nft(conntrackOn)
		if n := l.host.mustEnter(); n != 1 {
			t.Fatalf("%d connections entered, want one in SYN_RECV", n)
		}
		l.host.nft(firewall)
		l.far.command("", "nft", "flush", "ruleset")
		_, err := c.Write([]byte("x"))
		must(t, err)
		p := pair{"half-open", accepted(t, l.hostEar), c}
		must(t, p.host.SetReadDeadline(time.Now().Add(patience)))
		_, err = p.host.Read(make([]byte, 1))
		must(t, err)
		p.lives(t, true)
		l.host.command("", "nft", "flush", "ruleset")
		l.far.nft(lose)
		must(t, errors.Join(p.host.SetLinger(0), p.host.Close()))
	}
}
