package e2e

import (
	"fmt"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// renumbered moves up2 from its address to the next one, as a DHCP client does:
// the address first, and then its hook.
func renumbered(t *testing.T, l *lab.Lab, next, last string) {
	t.Helper()
	l.Script(fmt.Sprintf("ip addr add %s/24 dev up2; ip addr del %s/24 dev up2; ip route replace default via 198.51.100.1 dev up2 metric 2", next, last))
	wantCode(t, l.Event(bound("BOUND", next, "198.51.100.1")...), 0)
}

// strictFilter has the host drop what comes in by another way than answers
// would leave (rp_filter, ip-sysctl.rst).
func strictFilter(l *lab.Lab) {
	l.Script("sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1 net.ipv4.conf.up1.rp_filter=1 net.ipv4.conf.up2.rp_filter=1")
}

// TestTunnelTrafficWhileRenumbering has datagrams go through the tunnel in both
// directions, from far as from the host, while the uplink gets other addresses:
// what far sends is lost until it knows the new one. None of the tunnel's
// packets leaves by the other uplink, also with strict reverse path filters.
func TestTunnelTrafficWhileRenumbering(t *testing.T) {
	for _, strict := range []bool{false, true} {
		t.Run(fmt.Sprintf("strict %v", strict), func(t *testing.T) {
			l := newLab(t)
			if strict {
				strictFilter(l)
			}
			e := session(t, l)
			l.Echo(l.Far, "", "10.200.0.2")
			l.Echo(l.Namespace, "", "10.200.0.1")
			wrong := counting(t, l.ISP1, "prerouting priority -300", "iifname home udp dport 51820")
			addrs := []string{two4, "198.51.100.77"}
			changes := lab.Rounds(6)
			out, in := l.Pulse(l.Namespace, "10.200.0.2"), l.Pulse(l.Far, "10.200.0.1")
			for i := range changes {
				next := addrs[(i+1)%2]
				renumbered(t, l, next, addrs[i%2])
				lab.Until(t, "far knows "+next, func() bool { return e.at() == next })
			}
			for direction, p := range map[string]lab.Pulse{"the host's": out(), "far's": in()} {
				lost := p.Sent - p.Answered
				t.Logf("of %s %d datagrams, 5 ms apart, %d were lost over %d changes; the longest silence was %s", direction, p.Sent, lost, changes, p.Silence.Round(time.Millisecond))
				if p.Answered == 0 || p.Silence > soon {
					t.Errorf("%s: %+v", direction, p)
				}
			}
			if n := wrong(); n != 0 {
				t.Errorf("%d packets of the tunnel left by the other uplink", n)
			}
			// All is as before: nothing is lost any more.
			in = l.Pulse(l.Far, "10.200.0.1")
			time.Sleep(time.Second / 4)
			if p := in(); p.Sent == 0 || p.Answered != p.Sent {
				t.Errorf("afterwards: %+v", p)
			}
			noSpoof(t, l)
		})
	}
}
