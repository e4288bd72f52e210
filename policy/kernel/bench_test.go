package kernel

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// BenchmarkFacts reads a host that has the rules and routes of a thousand
// addresses.
func BenchmarkFacts(b *testing.B) {
	c := namespace(b)
	build(b, c)
	var steps []policy.Step
	for i := range 1000 {
		r := highRoute()
		from := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 11<<24+uint32(i))))
		r.Table = policy.TableOf(from)
		rule := policy.Rule{Priority: 32755, From: netip.PrefixFrom(from, 32), Action: policy.Lookup, Table: policy.TableMain, Suppresses: true, Protocol: policy.Protocol}
		other := rule
		other.Priority, other.Table, other.Suppresses = 32756, r.Table, false
		steps = append(steps, policy.Step{Op: policy.Add, IsRoute: true, Route: r}, policy.Step{Op: policy.Add, Rule: rule}, policy.Step{Op: policy.Add, Rule: other})
	}
	for _, err := range c.Apply(steps) {
		must(b, err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		f, err := c.Facts()
		must(b, err)
		if len(f.Rules) < 2000 || len(f.Routes) < 1000 || !f.Families[fwmark.IPv4] {
			b.Fatalf("%d rules, %d routes", len(f.Rules), len(f.Routes))
		}
	}
}
