package kernel

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/policy/policytest"
)

// TestTraceAsTheKernelHasIt traces packets through random hosts with rules and
// routes of ours, and half of them without: marks, sources and devices, both
// families. Each time the kernel's own look-up has to say the same.
func TestTraceAsTheKernelHasIt(t *testing.T) {
	asked := 0
	for seed := range uint64(20) {
		h := policytest.RandomHost(rand.New(rand.NewPCG(seed, 7)))
		c := host(t, h)
		if seed%2 == 0 {
			err := policytest.Converge(h, false, func() policy.Facts {
				f, err := c.Facts()
				must(t, err)
				return f
			}, func(s policy.Step) error { return apply(c, s) }, func(p policy.Packet) policytest.Way {
				device, errno := ask(t, c, p)
				return policytest.Way{Device: device, Errno: errno}
			})
			must(t, err)
		}
		f, err := c.Facts()
		must(t, err)
		tracer := tracer{t: t, c: c, links: f.Links, rules: map[fwmark.Family][]policy.TracedRule{}}
		for _, dst := range h.Destinations {
			for _, p := range probes(h, dst) {
				tracer.check(fmt.Sprint("seed ", seed), p)
				asked++
			}
		}
	}
	if asked < 3000 {
		t.Errorf("only %d packets were traced", asked)
	}
}

// probes are packets to a destination: one of each mark, source and device.
func probes(h policytest.Host, dst netip.Addr) (list []policy.Probe) {
	plain := policy.Probe{Packet: policy.Packet{Dst: dst}}
	list = append(list, plain)
	for _, in := range h.Intents {
		p := plain
		p.Mark = in.Mark.Value
		list = append(list, p)
	}
	for _, a := range h.Addrs {
		p := plain
		if p.Src = a.Prefix.Addr(); p.Src.BitLen() == dst.BitLen() {
			list = append(list, p)
		}
	}
	for _, l := range h.Links {
		p := plain
		p.Device = l.Name
		list = append(list, p)
	}
	return list
}

type tracer struct {
	t     *testing.T
	c     *Client
	links []policy.Link
	rules map[fwmark.Family][]policy.TracedRule
}

func (tr *tracer) check(where string, p policy.Probe) {
	tr.t.Helper()
	family := fwmark.FamilyOf(p.Dst)
	if tr.rules[family] == nil {
		rules, err := tr.c.TracedRules(family)
		must(tr.t, err)
		tr.rules[family] = rules
	}
	if p.Src.IsValid() { // not each random address was accepted
		if k, err := tr.c.Resolve(policy.Probe{Packet: policy.Packet{Dst: p.Src}}); err != nil || k.Route.Type != unix.RTN_LOCAL {
			return
		}
	}
	routes, err := tr.c.RoutesTo(p.Dst)
	must(tr.t, err)
	k, err := tr.c.Resolve(p)
	must(tr.t, err)
	exceptions, err := tr.c.ExceptionsTo(p.Dst, routes)
	must(tr.t, err)
	trace := policy.Routing{Routes: routes, Links: tr.links, Exceptions: exceptions}.Trace(tr.rules[family], p)
	if len(trace.Others) > 0 {
		tr.t.Errorf("%s: %+v: undecided: %+v", where, p, trace.Others)
	}
	learned := trace.Errno == 0 && len(trace.Asked) > 0 && trace.Asked[len(trace.Asked)-1].Learned
	if trace.Agrees(k) && learned == k.Learned {
		return
	}
	tr.t.Errorf("%s: %+v: the kernel says %q (%v) by %s, found %s, not %+v", where, p, k.Device, k.Errno, k.Route, k.Match, trace.Verdict)
	tr.t.Logf("learned: %t, by the kernel %t", learned, k.Learned)
	for _, a := range trace.Asked {
		tr.t.Logf("%s: %d %s %s", a.Rule.Rule, a.Result, a.Differs, a.Route)
	}
	for _, r := range routes {
		tr.t.Logf("%s type %d", r, r.Type)
	}
}

// TestTraceOfOtherSelectors has rules by protocol, port, user and type of service:
// those that can be judged are, and the others are named.
func TestTraceOfOtherSelectors(t *testing.T) {
	c := namespace(t)
	build(t, c)
	dst := netip.MustParseAddr("203.0.113.77")
	port443 := binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, 443), 443)
	for _, r := range []struct {
		priority uint32
		kind     uint16
		value    []byte
	}{
		{100, unix.FRA_IP_PROTO, []byte{unix.IPPROTO_TCP}},
		{101, unix.FRA_DPORT_RANGE, port443},
		{102, unix.FRA_UID_RANGE, []byte{0xe8, 3, 0, 0, 0xe8, 3, 0, 0}},
	} {
		rule := policy.Rule{Priority: r.priority, Action: policy.Unreachable, Protocol: 3}
		body := appendAttribute(appendRule(nil, &rule), r.kind, r.value...)
		_, err := c.socket.ask(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, body, 0, nil)
		must(t, err)
	}
	rules, err := c.TracedRules(fwmark.IPv4)
	must(t, err)
	for name, want := range map[string]struct {
		p      policy.Probe
		rule   uint32 // that decides; 0: none
		others int
	}{
		"tcp":             {policy.Probe{Protocol: unix.IPPROTO_TCP, Port: 80}, 100, 0},
		"udp to port 443": {policy.Probe{Protocol: unix.IPPROTO_UDP, Port: 443}, 101, 0},
		"udp to port 80":  {policy.Probe{Protocol: unix.IPPROTO_UDP, Port: 80}, 0, 1},
		"not said":        {policy.Probe{}, 0, 3},
	} {
		want.p.Dst = dst
		trace := policy.Routing{}.Trace(rules, want.p)
		if trace.Rule.Priority != want.rule || len(trace.Others) != want.others {
			t.Errorf("%s: %d decides, others %+v", name, trace.Rule.Priority, trace.Others)
		}
	}
}
