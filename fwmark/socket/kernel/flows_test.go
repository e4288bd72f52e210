package kernel

import (
	"context"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/socket"
)

// Addresses that the far side offers to MPTCP connections: at one it answers, and at
// the other nobody does.
const offered, deaf = "203.0.113.2", "203.0.113.9"

// offers has the far side offer an address to each MPTCP connection, and waits until
// this side has a flow to it in some state, from a source: the kernel makes it.
func (h *host) offers(addr, state, source string) {
	h.t.Helper()
	h.onFar("ip", "mptcp", "endpoint", "add", addr, "signal")
	until(h.t, "a flow to "+addr, func() bool {
		flow := flowTo(h.t, addr)
		return flow.state == state && flow.source == source
	})
}

// takesFlows has both sides join flows to MPTCP connections.
func (h *host) takesFlows() {
	h.t.Helper()
	limits := []string{"ip", "mptcp", "limits", "set", "subflows", "8", "add_addr_accepted", "8"}
	run(h.t, limits)
	h.onFar(limits...)
	h.onFar("ip", "addr", "add", offered+"/32", "dev", "lo")
}

func (h *host) onFar(args ...string) {
	h.t.Helper()
	run(h.t, append([]string{"nsenter", "--target", strconv.Itoa(h.far.pid), "--net", "--"}, args...))
}

type flow struct {
	state, source string
	mark          uint32
}

// flowTo returns the TCP connection to an address, as ss(8) tells of it.
func flowTo(t testing.TB, addr string) flow { return flowOf(t, "dst", addr) }

// flowFrom returns the one from an address.
func flowFrom(t testing.TB, addr string) flow { return flowOf(t, "src", addr) }

func flowOf(t testing.TB, side, addr string) flow {
	t.Helper()
	out, err := exec.Command("ss", "-Htnea", side, addr).CombinedOutput()
	if err != nil {
		t.Fatalf("ss: %v: %s", err, out)
	}
	m := regexp.MustCompile(`^(\S+) +\d+ +\d+ +(\S+):\d+ `).FindSubmatch(out)
	if m == nil {
		return flow{}
	}
	f := flow{state: string(m[1]), source: string(m[2])}
	if m := regexp.MustCompile(`fwmark:(0x[0-9a-f]+)`).FindSubmatch(out); m != nil {
		mark, err := strconv.ParseUint(string(m[1]), 0, 32)
		must(t, err)
		f.mark = uint32(mark)
	}
	return f
}

// flowsWith counts the TCP connections with a mark, as ss(8) tells of them.
func flowsWith(t testing.TB, m fwmark.Mark) int {
	t.Helper()
	out, err := exec.Command("ss", "-Htnea").CombinedOutput()
	if err != nil {
		t.Fatalf("ss: %v: %s", err, out)
	}
	return strings.Count(string(out), " fwmark:"+m.String()+" ")
}

// TestSocketFlows: the flows that the kernel joins to an MPTCP connection have its mark
// and the uplink's address. They go along when the mark moves, also while they are being
// made; and when the service is pinned no longer they stay with their connection.
func TestSocketFlows(t *testing.T) {
	h := newHost(t)
	h.listenFar()
	h.takesFlows()
	cgroup := h.make("a")
	h.pin(pins{cgroup: one})
	p := h.start("a")
	p.do("socket", "s", "mptcp4")
	p.do("connect", "s", at(far4, "8"))
	check := func(what string, mark fwmark.Mark) {
		t.Helper()
		for _, to := range []string{far4, offered, deaf} {
			if got := flowTo(t, to); got.source != other4 || got.mark != mark.Value {
				t.Errorf("%s: the flow to %s is %+v, want mark %s from %s", what, to, got, mark, other4)
			}
		}
	}
	h.offers(offered, "ESTAB", other4)
	h.offers(deaf, "SYN-SENT", other4)
	check("joined", one)
	h.pin(pins{cgroup: two})
	check("moved", two)
	h.pin(pins{cgroup: masked})
	check("moved under a mask", masked)
	h.pin(pins{})
	check("unpinned", masked)
}

// TestSocketFlowsFromElsewhere: a flow that the kernel begins at another uplink's address
// has the mark, too. So it does not leave: the second lock drops it, and here the far side.
func TestSocketFlowsFromElsewhere(t *testing.T) {
	h := newHost(t)
	h.listenFar()
	h.takesFlows()
	h.pin(pins{h.make("a"): one})
	p := h.start("a")
	p.do("socket", "s", "mptcp4")
	p.do("connect", "s", at(far4, "8"))
	p.do("send", "s", at(wild4, "0")) // nothing joins before the peer has acknowledged something
	until(t, "a flow from "+main4, func() bool {
		run(t, []string{"ip", "mptcp", "endpoint", "flush"})
		run(t, []string{"ip", "mptcp", "endpoint", "add", main4, "subflow"})
		return flowsWith(t, one) == 2
	})
	if got := flowFrom(t, main4); got.state != "SYN-SENT" || got.mark != one.Value {
		t.Errorf("the flow is %+v", got)
	}
}

// TestSocketFlowsOlder: a connection that is older than the pin keeps the flows that it
// has. One that the kernel joins later has the mark, and the uplink's address. When the
// mark moves that flow cannot go along, as the connection has no mark: it is ended.
func TestSocketFlowsOlder(t *testing.T) {
	h := newHost(t)
	h.listenFar()
	h.takesFlows()
	p := h.start("a")
	p.do("socket", "s", "mptcp4")
	p.do("connect", "s", at(far4, "8"))
	h.pin(pins{h.path("a"): one})
	h.offers(offered, "ESTAB", other4)
	if first, joined := flowTo(t, far4), flowTo(t, offered); first.source != main4 || first.mark != 0 || joined.mark != one.Value {
		t.Errorf("flows %+v and %+v", first, joined)
	}
	h.pin(pins{h.path("a"): two})
	if what, err := EndClosed(context.Background(), one); err != nil || what != (Closed{Ended: 1}) {
		t.Errorf("%+v, %v", what, err)
	}
	if left := flowsWith(t, one); left > 0 {
		t.Errorf("%d flows are left", left)
	}
	h.far.do("accept", "mptcp4", "accepted")
	p.do("send", "s", at(wild4, "0"))
	h.far.do("receive", "accepted")
}

// TestSocketFlowsOfServers: what an MPTCP server has accepted is answered by whichever
// uplink it came, also when the mark has moved.
func TestSocketFlowsOfServers(t *testing.T) {
	h := newHost(t)
	cgroup := h.make("a")
	h.pin(pins{cgroup: one})
	p := h.start("a")
	for kind, addrs := range map[string][]string{"mptcp4": {main4, other4}, "mptcp6": {main6, other6, main4}} {
		p.do("socket", "s", kind)
		p.do("bind", "s", at(map[string]string{"mptcp4": wild4, "mptcp6": wild6}[kind], port))
		p.do("listen", "s")
		for _, addr := range addrs {
			client := "mptcp4"
			if strings.Contains(addr, ":") {
				client = "mptcp6"
			}
			h.far.do("socket", "c", client)
			h.far.do("connect", "c", at(addr, port))
			p.do("accept", "s", "accepted")
			for _, m := range []fwmark.Mark{two, masked, one} {
				h.pin(pins{cgroup: m})
				p.do("send", "accepted", at(wild4, "0"))
				if _, err := h.far.try("receive", "c"); err != nil {
					t.Errorf("%s: what has connected to %s has no answer once the mark is %s: %v", kind, addr, m, err)
				}
			}
			p.do("close", "accepted")
			h.far.do("close", "c")
		}
		p.do("close", "s")
	}
}

// TestSocketClosedFlows: the flows of MPTCP connections that their program has closed
// are ended like other TCP connections, also of one whose peer knows TCP alone, and
// those that have joined or are about to.
func TestSocketClosedFlows(t *testing.T) {
	h := newHost(t)
	h.listenFar()
	h.takesFlows()
	p := h.start("a")
	all := []struct {
		name, kind, to string
		mark           uint32
		how            string
		ended          bool
		port           uint16
	}{
		{name: "four", kind: "mptcp4", to: at(far4, "8"), mark: one.Value, how: "close", ended: true},
		{name: "six", kind: "mptcp6", to: at(far6, "8"), mark: one.Value, how: "close", ended: true},
		{name: "plain", kind: "mptcp4", to: at(far4, "7"), mark: one.Value, how: "close", ended: true},
		{name: "other", kind: "mptcp6", to: at(far6, "8"), mark: two.Value, how: "close"},
		{name: "open", kind: "mptcp6", to: at(far6, "8"), mark: one.Value, how: "shutdown"},
	}
	for i := range all {
		c := &all[i]
		p.do("socket", c.name, c.kind)
		p.do("set", c.name, c.mark)
		p.do("connect", c.name, c.to)
		c.port = p.local(c.name).Port()
		if c.name == "four" {
			h.offers(offered, "ESTAB", other4)
			h.offers(deaf, "SYN-SENT", other4)
		}
		p.do("fill", c.name)
		p.do(c.how, c.name)
		if tcpOf(t, c.port) == "" {
			t.Fatalf("%s: its flow is gone", c.name)
		}
	}
	var r Report
	move := socket.Move{From: one, To: masked}
	must(t, h.client.Give(context.Background(), socket.Remark{Cgroup: h.path("a"), Moves: []socket.Move{move}}, &r))
	before, others := flowsWith(t, one), flowsWith(t, two)
	if before < 5 || others == 0 {
		t.Fatalf("%d flows with the mark, %d with another", before, others)
	}
	what, err := EndClosed(context.Background(), one)
	if err != nil || what != (Closed{Ended: before}) {
		t.Errorf("%+v, %v; there were %d", what, err, before)
	}
	for _, c := range all {
		if is := tcpOf(t, c.port); (is == "") != c.ended {
			t.Errorf("%s: state and inode %q", c.name, is)
		}
	}
	if left := flowsWith(t, one); left > 0 {
		t.Errorf("%d flows are left", left)
	}
	if left := flowsWith(t, two); left != others {
		t.Errorf("%d flows with another mark are left of %d", left, others)
	}
	if got := p.mark("open"); got != masked.Value {
		t.Errorf("what is open has mark %#x", got)
	}
}
