package sim_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/policy/sim"
)

var comparable = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func TestScenarios(t *testing.T) {
	for _, c := range sim.Scenarios() {
		t.Run(c.Name, func(t *testing.T) {
			k := sim.NewForScenario()
			for _, o := range c.Ops {
				if errno := k.Run(o); errno != o.Errno {
					t.Errorf("%s: %v, want %v", o.Step, errno, o.Errno)
				}
			}
			var rules []policy.Rule
			for _, f := range fwmark.Families {
				rules = append(rules, k.Rules(f)...)
			}
			rules = slices.DeleteFunc(rules, func(r policy.Rule) bool { return r.Protocol == policy.ProtocolKernel })
			if d := cmp.Diff(c.Rules, rules, comparable); len(c.Rules)+len(rules) > 0 && d != "" {
				t.Errorf("rules (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.Routes, k.Routes(), comparable); len(c.Routes)+len(k.Routes()) > 0 && d != "" {
				t.Errorf("routes (-want +got):\n%s", d)
			}
			for _, a := range c.RouteGets {
				r, errno := k.Walk(a.Packet)
				if errno != a.Errno || r.Device != a.Device {
					t.Errorf("%+v leaves by %q (%v), want %q (%v)", a.Packet, r.Device, errno, a.Device, a.Errno)
				}
			}
		})
	}
}
