package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/socket"
)

// remembered is conntrack: marks by the address of this host.
type remembered struct {
	marks map[netip.AddrPort]uint32
	asked []string
	err   error
}

func (r *remembered) Mark(_ context.Context, protocol uint8, local, remote netip.AddrPort) (uint32, bool, error) {
	r.asked = append(r.asked, fmt.Sprintf("%d %s", protocol, remote))
	if r.err != nil {
		return 0, false, r.err
	}
	mark, known := r.marks[local]
	return mark, known, nil
}

// TestSocketByConnection: sockets that are connected and have no mark get one by what
// conntrack has of their connections. It is asked of those of TCP and UDP, and by the
// addresses that their packets have.
func TestSocketByConnection(t *testing.T) {
	h := newHost(t)
	h.listenFar()
	p := h.start("a")
	openOlder(t, p)
	for name, to := range map[string]string{"raw4": far4, "ping6": far6} {
		p.do("connect", name, at(to, "0"))
	}
	h.far.do("socket", "asks", "tcp4")
	h.far.do("connect", "asks", at(main4, "8082"))
	p.do("accept", "tcp4-server", "accepted")
	p.do("socket", "marked", "udp4")
	p.do("connect", "marked", at(far4, farPort))
	p.do("set", "marked", 0x77)
	local := func(name string) netip.AddrPort {
		a := p.local(name)
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	conntrack := &remembered{marks: map[netip.AddrPort]uint32{
		local("udp4-connected"): 0, local("udp6-connected"): two.Value, local("mptcp4-connected"): masked.Value,
	}}
	h.client.Conntrack = conntrack
	r := socket.Remark{Cgroup: h.path("a"), To: one, ByPacket: true, Connections: []socket.Move{{From: two, To: two}, {From: masked, To: one}}}
	give := func() (report Report) {
		t.Helper()
		must(t, h.client.Give(context.Background(), r, &report))
		return report
	}
	conntrack.err = unix.EIO
	if report := give(); len(report.Refused) != 1 || !errors.Is(report.Refused[0], unix.EIO) || p.mark("tcp4-connected") != 0 {
		t.Errorf("%+v", report)
	}
	conntrack.err, conntrack.asked = nil, nil
	if report := give(); len(report.Refused) > 0 {
		t.Errorf("%+v", report)
	}
	for name, want := range map[string]uint32{
		"udp4-connected": 0, "udp6-connected": two.Value, "mptcp4-connected": one.Value,
		"tcp4-connected": one.Value, "tcp6-connected": one.Value, "tcp4-connecting": one.Value, "raw4": one.Value, "ping6": one.Value,
		"accepted": 0, "tcp4-server": 0, "udp4": one.Value, "marked": 0x77,
	} {
		if got := p.mark(name); got != want {
			t.Errorf("%s has mark %#x, want %#x", name, got, want)
		}
	}
	slices.Sort(conntrack.asked)
	asker := h.far.local("asks")
	want := []string{"17 " + at(far4, farPort), "17 " + at(far4, farPort), "6 " + at(far6, farPort), "6 " + asker.String(), "6 " + at(far4, farPort), "6 " + at(far4, "8")}
	slices.Sort(want)
	if !slices.Equal(conntrack.asked, want) {
		t.Errorf("asked %q, want %q", conntrack.asked, want)
	}
	// Where there is no conntrack to ask, it knows nothing.
	p.do("set", "udp4-connected", 0)
	conntrack.err = fmt.Errorf("no ctnetlink: %w", errors.ErrUnsupported)
	if report := give(); len(report.Refused) > 0 || p.mark("udp4-connected") != one.Value {
		t.Errorf("%+v, mark %#x", report, p.mark("udp4-connected"))
	}
	if got := p.mark("accepted"); got != 0 {
		t.Errorf("what was accepted has mark %#x", got)
	}
}
