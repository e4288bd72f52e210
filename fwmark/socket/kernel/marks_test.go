package kernel

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/socket"
)

const (
	far4, far6    = "203.0.113.1", "2001:db8:f::1"
	main4, main6  = "192.0.2.10", "2001:db8:1::10"
	other4        = "198.51.100.10"
	other6        = "2001:db8:2::10"
	mapped        = "::ffff:" + far4
	wild4, wild6  = "0.0.0.0", "::"
	farPort, port = "7", "8080"
)

func at(addr, port string) string {
	if strings.Contains(addr, ":") {
		return "[" + addr + "]:" + port
	}
	return addr + ":" + port
}

// listenFar has the far side take connections, and datagrams, of both families.
func (h *host) listenFar() {
	h.t.Helper()
	for _, kind := range []string{"tcp4", "tcp6", "mptcp4", "mptcp6", "udp4", "udp6"} {
		addr, number := wild4, farPort
		if strings.HasSuffix(kind, "6") {
			addr = far6
		}
		if strings.HasPrefix(kind, "mptcp") {
			number = "8"
		}
		h.far.do("socket", kind, kind)
		h.far.do("bind", kind, at(addr, number))
		if !strings.HasPrefix(kind, "udp") {
			h.far.do("listen", kind)
		}
	}
}

// TestSocketProgramsAlone has each program do its own part, without the others.
func TestSocketProgramsAlone(t *testing.T) {
	h := newHost(t)
	h.listenFar()
	type marks struct{ new4, new6, connected4, connected6, listens uint32 }
	m := one.Value
	for place, want := range map[socket.Place]marks{
		socket.Create:   {m, m, m, m, m},
		socket.Connect4: {connected4: m, listens: m},
		socket.Connect6: {connected6: m, listens: m},
		socket.Listen:   {},
	} {
		cgroup := h.make(strconv.Itoa(int(place)))
		step := socket.Step{Cgroup: cgroup, Mark: one, Changes: []socket.Change{{Kind: socket.Attach, Place: place, Mark: one}}}
		_, err := h.client.Apply(context.Background(), step)
		must(t, err)
		p := start(t, filepath.Join(h.point, cgroup), cleanAttr())
		var got marks
		p.do("socket", "four", "tcp4")
		p.do("socket", "six", "tcp6")
		got.new4, got.new6 = p.mark("four"), p.mark("six")
		p.do("connect", "four", at(far4, farPort))
		p.do("connect", "six", at(far6, farPort))
		got.connected4, got.connected6 = p.mark("four"), p.mark("six")
		p.do("socket", "server", "tcp4")
		p.do("set", "server", one.Value)
		p.do("bind", "server", at(wild4, port))
		p.do("listen", "server")
		got.listens = p.mark("server")
		if got != want {
			t.Errorf("%s alone: marks %+v, want %+v", place, got, want)
		}
		p.do("close", "server")
	}
	h.pin(pins{})
}

// TestSocketClients: each kind of socket has the mark when it is made, and the
// uplink's address when it connects.
func TestSocketClients(t *testing.T) {
	h := newHost(t)
	h.listenFar()
	h.pin(pins{h.make(""): one})
	pinned, free := h.start(""), start(t, "", cleanAttr())
	for _, c := range []struct{ kind, to, local, mainLocal string }{
		{"tcp4", at(far4, farPort), other4, main4},
		{"tcp6", at(far6, farPort), other6, main6},
		{"tcp6", at(mapped, farPort), other4, main4}, // by both stacks
		{"mptcp4", at(far4, "8"), other4, main4},
		{"mptcp6", at(far6, "8"), other6, main6},
		{"udp4", at(far4, farPort), other4, main4},
		{"udp6", at(far6, farPort), other6, main6},
		{"udp6", at(mapped, farPort), other4, main4},
		{"raw4", at(far4, "0"), other4, main4},
		{"raw6", at(far6, "0"), other6, main6},
		{"ping4", at(far4, "0"), other4, main4},
		{"ping6", at(far6, "0"), other6, main6},
	} {
		for p, want := range map[*process]string{pinned: c.local, free: c.mainLocal} {
			mark := uint32(0)
			if p == pinned {
				mark = one.Value
			}
			p.do("socket", "s", c.kind)
			if got := p.mark("s"); got != mark {
				t.Errorf("%s has mark %#x at first, want %#x", c.kind, got, mark)
			}
			p.do("connect", "s", c.to)
			if got := p.local("s").Addr(); got != netip.MustParseAddr(want) {
				t.Errorf("%s to %s has source %s, want %s", c.kind, c.to, got, want)
			}
			if got := p.mark("s"); got != mark {
				t.Errorf("%s connected has mark %#x, want %#x", c.kind, got, mark)
			}
			p.do("close", "s")
		}
	}
}

// TestSocketFirstDatagram: what is sent without connecting leaves by the uplink,
// from the first datagram on; also from a port of its own choice.
func TestSocketFirstDatagram(t *testing.T) {
	h := newHost(t)
	h.listenFar()
	h.pin(pins{h.make(""): one})
	p := h.start("")
	for _, c := range []struct{ kind, bind, to, want string }{
		{"udp4", "", far4, other4},
		{"udp6", "", far6, other6},
		{"udp4", at(wild4, port), far4, other4},
		{"udp6", at(wild6, port), far6, other6},
		{"udp6", at(wild6, port), mapped, other4},
	} {
		p.do("socket", "s", c.kind)
		if c.bind != "" {
			p.do("bind", "s", c.bind)
		}
		for range 2 {
			p.do("send", "s", at(c.to, farPort))
			kind := "udp4"
			if c.to == far6 {
				kind = "udp6"
			}
			got := netip.MustParseAddrPort(h.far.do("receive", kind))
			if got.Addr() != netip.MustParseAddr(c.want) {
				t.Errorf("%s bound to %q, to %s: comes from %s, want %s", c.kind, c.bind, c.to, got, c.want)
			}
		}
		p.do("close", "s")
	}
}

// TestSocketServers: what listens has no mark, and what it accepts neither, so it
// is answered by whichever uplink it came.
func TestSocketServers(t *testing.T) {
	h := newHost(t)
	h.pin(pins{h.make(""): one})
	p := h.start("")
	for _, c := range []struct {
		kind, bind string
		clients    [][2]string // kind of far's socket, and what it connects to
	}{
		{"tcp4", wild4, [][2]string{{"tcp4", main4}, {"tcp4", other4}, {"mptcp4", main4}}},
		{"tcp6", wild6, [][2]string{{"tcp6", main6}, {"tcp6", other6}, {"tcp4", main4}, {"tcp4", other4}}},
		{"mptcp4", wild4, [][2]string{{"mptcp4", main4}, {"mptcp4", other4}, {"tcp4", main4}, {"tcp4", other4}}},
		{"mptcp6", wild6, [][2]string{{"mptcp6", main6}, {"mptcp6", other6}, {"mptcp4", main4}}},
		{"tcp4", main4, [][2]string{{"tcp4", main4}}},
	} {
		// An MPTCP socket keeps its number, and hands it on; it sends nothing itself.
		// What does is its flow, a TCP socket, which has none.
		flows := strings.HasPrefix(c.kind, "mptcp")
		p.do("socket", "s", c.kind)
		p.do("bind", "s", at(c.bind, port))
		if got := p.mark("s"); got != one.Value {
			t.Errorf("%s bound has mark %#x: a client may bind, too", c.kind, got)
		}
		p.do("listen", "s")
		if got := p.mark("s"); got != 0 && !flows {
			t.Errorf("%s that listens has mark %#x", c.kind, got)
		}
		for _, client := range c.clients {
			kind, to := client[0], client[1]
			h.far.do("socket", "c", kind)
			if _, err := h.far.try("connect", "c", at(to, port)); err != nil {
				t.Errorf("a server at %s %s: %v", c.kind, c.bind, err)
				continue
			}
			p.do("accept", "s", "a")
			if got := p.mark("a"); got != 0 && !flows {
				t.Errorf("accepted at %s: mark %#x", to, got)
			}
			p.do("send", "a", at(wild4, "0"))
			if _, err := h.far.try("receive", "c"); err != nil {
				t.Errorf("%s %s sends to what has connected by %s: %v", c.kind, c.bind, to, err)
			}
			p.do("close", "a")
			h.far.do("close", "c")
		}
		p.do("close", "s")
	}
}

// TestSocketListensUnderLoad: what asks to connect right when a socket begins to
// listen is answered without a mark, too.
func TestSocketListensUnderLoad(t *testing.T) {
	h := newHost(t)
	h.pin(pins{h.make(""): one})
	p := h.start("")
	done := make(chan bool)
	go func() {
		defer close(done)
		h.far.do("knock", at(main4, port))
	}()
	said := p.do("servers", at(wild4, port), 500)
	<-done
	var taken, marked int
	if _, err := fmt.Sscan(said, &taken, &marked); err != nil || taken == 0 || marked > 0 {
		t.Errorf("of %d connections that were accepted %d have a mark: %v", taken, marked, err)
	}
}

// TestSocketChildren: processes that are made in the cgroup, cgroups that are made
// in it later, and sockets that others hand on have the mark.
func TestSocketChildren(t *testing.T) {
	h := newHost(t)
	h.pin(pins{h.make(""): one})
	for _, name := range []string{"", "a/b"} {
		p := h.start(name)
		if got := p.do("child", "socket s udp4;mark s"); got != "0x2005" {
			t.Errorf("in cgroup %q, a child's socket has %s", name, got)
		}
	}
}

// TestSocketNested: the deepest of cgroups with programs wins, whichever had them
// first.
func TestSocketNested(t *testing.T) {
	for _, order := range [][]string{{"", "a"}, {"a", ""}} {
		h := newHost(t)
		h.listenFar()
		want := pins{}
		h.make("a/b")
		for _, name := range order {
			want[h.path(name)] = map[string]fwmark.Mark{"": one, "a": two}[name]
			h.pin(want)
		}
		for name, mark := range map[string]uint32{"": one.Value, "a": two.Value, "a/b": two.Value, "c": one.Value} {
			p := h.start(name)
			p.do("socket", "s", "tcp4")
			if got := p.mark("s"); got != mark {
				t.Errorf("%v: in %q mark %#x, want %#x", order, name, got, mark)
			}
			p.do("set", "s", 0)
			p.do("connect", "s", at(far4, farPort))
			if got := p.mark("s"); got != mark {
				t.Errorf("%v: connected in %q mark %#x, want %#x", order, name, got, mark)
			}
			if got := p.local("s").Addr().String(); got != other4 {
				t.Errorf("%v: connected in %q from %s", order, name, got)
			}
			p.do("socket", "l", "tcp4")
			p.do("listen", "l")
			if got := p.mark("l"); got != 0 {
				t.Errorf("%v: listening in %q mark %#x", order, name, got)
			}
		}
	}
}

// TestSocketMask: bits outside of the mask are the program's own, and so is a mark
// that it sets itself. A connection gets ours where it has none of our bits.
func TestSocketMask(t *testing.T) {
	h := newHost(t)
	h.listenFar()
	h.pin(pins{h.make(""): masked})
	p := h.start("")
	for _, c := range []struct {
		kind           string
		set            string // after the socket was made
		made           uint32
		connected      uint32
		listensInstead uint32
	}{
		{"tcp4", "", 0x2000, 0x2000, 0},
		{"tcp6", "0x10001", 0x2000, 0x12001, 0x10001},
		{"tcp4", "0x12001", 0x2000, 0x12001, 0x10001},
		{"tcp4", "0x1234", 0x2000, 0x1234, 0x1234}, // other bits in our mask
		{"udp4", "0x10001", 0x2000, 0x12001, 0},
		{"udp4", "0x1234", 0x2000, 0x1234, 0},
	} {
		to := at(far4, farPort)
		if c.kind == "tcp6" {
			to = at(far6, farPort)
		}
		for _, listens := range []bool{false, true} {
			if listens && c.kind == "udp4" {
				continue
			}
			p.do("socket", "s", c.kind)
			if got := p.mark("s"); got != c.made {
				t.Errorf("%s: made with %#x, want %#x", c.kind, got, c.made)
			}
			if c.set != "" {
				p.do("set", "s", c.set)
			}
			want := c.connected
			if listens {
				want = c.listensInstead
				p.do("listen", "s")
			} else {
				p.do("connect", "s", to)
			}
			if got := p.mark("s"); got != want {
				t.Errorf("%s, set %q, listens %v: %#x, want %#x", c.kind, c.set, listens, got, want)
			}
			p.do("close", "s")
		}
	}
}

// TestSocketSwapped has the mark changed again and again: each socket that is made
// meanwhile has one of both.
func TestSocketSwapped(t *testing.T) {
	h := newHost(t)
	cgroup := h.make("")
	h.pin(pins{cgroup: one})
	p := h.start("")
	stop, done := make(chan bool), make(chan map[uint32]int)
	go func() {
		seen := map[uint32]int{}
		for {
			select {
			case <-stop:
				done <- seen
				return
			default:
			}
			p.do("socket", "s", "udp4")
			seen[p.mark("s")]++
			p.do("close", "s")
		}
	}()
	for i := range 40 {
		h.pin(pins{cgroup: []fwmark.Mark{two, one}[i%2]})
	}
	close(stop)
	seen := <-done
	if n := seen[one.Value] + seen[two.Value]; n < 20 || len(seen) > 2 {
		t.Errorf("sockets by mark: %v", seen)
	}
}

// TestSocketText is what steps say, and that a second run has nothing to say.
func TestSocketText(t *testing.T) {
	h := withCgroup(t)
	a, b := h.make("a"), h.make("a/b")
	for _, c := range []struct {
		want  pins
		lines []string
	}{
		{pins{a: one}, []string{"+ socket-mark " + a + " 0x2005"}},
		{pins{a: one}, nil},
		{pins{a: one, b: masked}, []string{"+ socket-mark " + b + " 0x2000/0xff00"}},
		{pins{a: two, b: masked}, []string{"= socket-mark " + a + " 0x80002006"}},
		{pins{b: one}, []string{"= socket-mark " + b + " 0x2005", "- socket-mark " + a + " 0x80002006"}},
		{pins{}, []string{"- socket-mark " + b + " 0x2005"}},
		{pins{}, nil},
	} {
		lines, _ := h.pin(c.want)
		if diff := cmp.Diff(c.lines, lines); diff != "" {
			t.Errorf("to %v (-want +got):\n%s", c.want, diff)
		}
	}
	if s := h.read(a, b); slices.Contains([]int{len(s.Cgroups[a].Marks()), len(s.Cgroups[b].Marks())}, 1) {
		t.Errorf("left: %v", s)
	}
}
