package flows

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	host4, far4 = "192.0.2.10", "192.0.2.1"
	host6, far6 = "2001:db8::10", "2001:db8::1"
	servicePort = "7000"
)

// link is a host and a far one, joined by a wire.
type link struct {
	host, far       *namespace
	hostEar, farEar *net.TCPListener // dual-stack
}

// unreachable has the mark lead nowhere, so what is marked is lost.
const unreachable = "ip rule add fwmark 0x2005 unreachable; ip -6 rule add fwmark 0x2005 unreachable"

func newLink(t testing.TB) *link {
	t.Helper()
	l := &link{host: newNamespace(t), far: newNamespace(t)}
	// Neighbours are known: on a new link the first question for one is lost
	// now and then, and asked again after a second.
	l.host.script(fmt.Sprintf(`ip link set lo up
ip link add up1 address 02:00:00:00:00:01 type veth peer name home address 02:00:00:00:00:02 netns /proc/%d/fd/%d
ip addr add %s/24 dev up1; ip addr add %s/64 dev up1 nodad; ip link set up1 up
ip neigh add %s lladdr 02:00:00:00:00:02 dev up1; ip neigh add %s lladdr 02:00:00:00:00:02 dev up1
%s`, unix.Getpid(), l.far.file.Fd(), host4, host6, far4, far6, unreachable))
	l.far.script(fmt.Sprintf(`ip link set lo up
ip addr add %s/24 dev home; ip addr add %s/64 dev home nodad; ip link set home up
ip neigh add %s lladdr 02:00:00:00:00:01 dev home; ip neigh add %s lladdr 02:00:00:00:00:01 dev home`, far4, far6, host4, host6))
	l.hostEar, l.farEar = l.host.listen("tcp", ":"+servicePort), l.far.listen("tcp", ":"+servicePort)
	return l
}

// pair is a connection: the host's end and the other one.
type pair struct {
	name      string
	host, far *net.TCPConn
}

// accepted waits for the other end of a connection that was made just now, the
// only one on its way.
func accepted(t testing.TB, ear *net.TCPListener) *net.TCPConn {
	t.Helper()
	must(t, ear.SetDeadline(time.Now().Add(patience)))
	c, err := ear.AcceptTCP()
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func (l *link) out(t testing.TB, name string, dialled *net.TCPConn) pair {
	t.Helper()
	return pair{name, dialled, accepted(t, l.farEar)}
}

// pairs makes connections of each kind, both ways.
func (l *link) pairs(t testing.TB) []pair {
	t.Helper()
	in := func(name, address string) pair {
		t.Helper()
		c := l.far.dial(net.JoinHostPort(address, servicePort))
		return pair{name, accepted(t, l.hostEar), c}
	}
	list := []pair{
		l.out(t, "IPv4 out", l.host.dial(net.JoinHostPort(far4, servicePort))),
		l.out(t, "IPv6 out", l.host.dial(net.JoinHostPort(far6, servicePort))),
		l.out(t, "IPv4-mapped out", l.host.dialMapped([4]byte{192, 0, 2, 1}, 7000)),
		in("IPv4-mapped in", host4), // the listener is dual-stack
		in("IPv6 in", host6),
	}
	local := l.host.dial(net.JoinHostPort("127.0.0.1", servicePort))
	list = append(list, pair{"loopback", local, accepted(t, l.hostEar)})
	four := l.host.listen("tcp4", host4+":7001")
	c := l.far.dial(host4 + ":7001")
	return append(list, pair{"IPv4 in", accepted(t, four), c})
}

// send writes on one end and reads at the other, all or an error.
func send(from, to *net.TCPConn, data []byte) error {
	deadline := time.Now().Add(patience)
	if err := errors.Join(from.SetWriteDeadline(deadline), to.SetReadDeadline(deadline)); err != nil {
		return err
	}
	written := make(chan error, 1)
	go func() {
		_, err := from.Write(data)
		written <- err
	}()
	got := make([]byte, len(data))
	_, err := io.ReadFull(to, got)
	if err == nil && !bytes.Equal(got, data) {
		err = errors.New("other bytes came")
	}
	return errors.Join(err, <-written)
}

// bulk is more than any window.
var bulk = bytes.Repeat([]byte("0123456789abcdef"), 1<<16)

// ends returns both, the host's first or second.
func (p pair) ends(hostFirst bool) (from, to *net.TCPConn) {
	if hostFirst {
		return p.host, p.far
	}
	return p.far, p.host
}

// lives checks that data flows both ways, first from the host where hostFirst.
func (p pair) lives(t testing.TB, hostFirst bool) {
	t.Helper()
	from, to := p.ends(hostFirst)
	for _, data := range [][]byte{[]byte("x"), bulk} {
		if err := errors.Join(send(from, to, data), send(to, from, data)); err != nil {
			t.Errorf("%s: %d bytes, first from %s: %v", p.name, len(data), from.LocalAddr(), err)
			return
		}
	}
}

// halfClose ends what one side sends, and waits until the other one knows.
func (p pair) halfClose(t testing.TB, host bool) {
	t.Helper()
	from, to := p.ends(host)
	must(t, from.CloseWrite())
	must(t, to.SetReadDeadline(time.Now().Add(patience)))
	if n, err := to.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%s: %d bytes and %v instead of its end", p.name, n, err)
	}
}

// close ends it cleanly.
func (p pair) close(t testing.TB) {
	t.Helper()
	p.halfClose(t, true)
	p.halfClose(t, false)
}

// table returns conntrack's TCP entries.
func (n *namespace) table() []*netlink.ConntrackFlow {
	n.t.Helper()
	var list []*netlink.ConntrackFlow
	var err error
	n.do(func() {
		for _, f := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
			flows, e := netlink.ConntrackTableList(netlink.ConntrackTable, f)
			list, err = append(list, flows...), errors.Join(err, e)
		}
	})
	must(n.t, err)
	return list
}

// flush empties conntrack.
func (n *namespace) flush() {
	n.t.Helper()
	var err error
	n.do(func() { err = netlink.ConntrackTableFlush(netlink.ConntrackTable) })
	must(n.t, err)
}
