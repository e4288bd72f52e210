package kernel

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// TestAsk asks for more packets than go into one datagram: each has its own
// answer, refused ones too.
func TestAsk(t *testing.T) {
	c := namespace(t)
	build(t, c)
	for i, action := range []policy.Action{policy.Unreachable, policy.Prohibit, policy.Blackhole} {
		r := policy.Rule{Priority: 10, Mark: fwmark.Mark{Value: 7 + uint32(i), Mask: fwmark.FullMask}, Action: action}
		must(t, c.Apply([]policy.Step{{Op: policy.Add, Rule: r}})[0])
	}
	f, err := c.Facts()
	must(t, err)
	i := slices.IndexFunc(f.Addrs, func(a policy.Address) bool { return a.Prefix.Addr().Is4() && a.Device != "lo" })
	if i < 0 {
		t.Fatalf("no address: %+v", f.Addrs)
	}
	errnos := map[uint32]unix.Errno{7: unix.ENETUNREACH, 8: unix.EACCES, 9: unix.EINVAL}
	var packets []policy.Packet
	for n := range uint32(3*askSize + 5) {
		packets = append(packets, policy.Packet{Dst: f.Addrs[i].Prefix.Addr(), Mark: 6 + n%4})
	}
	for i := range packets {
		if packets[i].Mark != 6 {
			packets[i].Dst = netip.MustParseAddr("203.0.113.77")
		}
	}
	answers, err := c.Ask(packets)
	must(t, err)
	for i, a := range answers {
		if want := errnos[packets[i].Mark]; a.Errno != want || (a.Device == "lo") != (want == 0) {
			t.Errorf("mark %d: %+v", packets[i].Mark, a)
		}
	}
}
