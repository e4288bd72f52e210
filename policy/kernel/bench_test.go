package kernel

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"wg-multihome/policy"
)

// BenchmarkFacts reads a host that has a thousand addresses with their rules and
// routes, part by part.
func BenchmarkFacts(b *testing.B) {
	c := namespace(b)
	build(b, c)
	var steps []policy.Step
	lo, err := netlink.LinkByName("lo")
	must(b, err)
	for i := range 1000 {
		r := highRoute()
		from := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 11<<24+uint32(i))))
		r.Table = policy.TableOf(from)
		must(b, netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: from.AsSlice(), Mask: net.CIDRMask(32, 32)}}))
		rule := policy.Rule{Priority: 32755, From: netip.PrefixFrom(from, 32), Action: policy.Lookup, Table: policy.TableMain, Suppresses: true, Protocol: policy.Protocol}
		other := rule
		other.Priority, other.Table, other.Suppresses = 32756, r.Table, false
		steps = append(steps, policy.Step{Op: policy.Add, IsRoute: true, Route: r}, policy.Step{Op: policy.Add, Rule: rule}, policy.Step{Op: policy.Add, Rule: other})
	}
	for _, err := range c.Apply(steps) {
		must(b, err)
	}
	f, err := c.Facts()
	must(b, err)
	if len(f.Rules) < 2000 || len(f.Routes) < 1000 {
		b.Fatalf("%d rules, %d routes", len(f.Rules), len(f.Routes))
	}
	for _, part := range []struct {
		name string
		read func(*policy.Facts) error
	}{{"links", c.ReadLinks}, {"addresses", c.ReadAddrs}, {"rules", c.ReadRules}, {"routes", c.ReadRoutes}} {
		b.Run(part.name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				must(b, part.read(&f))
			}
		})
	}
}
