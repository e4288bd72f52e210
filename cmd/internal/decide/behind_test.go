package decide

import (
	"net/netip"
	"testing"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/wg"
)

// TestBehind: what was read of rules, devices and addresses tells what else is to be read.
func TestBehind(t *testing.T) {
	own := policy.Rule{Protocol: policy.Protocol, Action: policy.Lookup, Table: 3325256714}
	for name, c := range map[string]struct {
		change func(*Observation)
		want   Parts
	}{
		"nothing":        {func(*Observation) {}, 0},
		"a rule of ours": {func(o *Observation) { o.Facts.Rules = append(o.Facts.Rules, own) }, 0},
		"a table of others": {func(o *Observation) {
			o.Facts.Rules = append(o.Facts.Rules, policy.Rule{Action: policy.Lookup, Table: 7})
		}, Routes},
		"the same in another family": {func(o *Observation) {
			o.Facts.Rules = append(o.Facts.Rules, policy.Rule{Family: fwmark.IPv6, Action: policy.Lookup, Table: 5})
		}, Routes},
		"a table less": {func(o *Observation) { o.Facts.Rules = o.Facts.Rules[:1] }, Routes},
		"local, which leads nowhere": {func(o *Observation) {
			o.Facts.Rules = append(o.Facts.Rules, policy.Rule{Action: policy.Lookup, Table: policy.TableLocal})
		}, 0},
		"a device's mark": {func(o *Observation) { o.Devices.Found = []wg.Device{{Name: "wg0", Mark: 51820}} }, Routes},
		"an address of a family more": {func(o *Observation) {
			o.Facts.Addrs = append(o.Facts.Addrs, policy.Address{Prefix: netip.MustParsePrefix("2001:db8::1/64")})
		}, Rules},
	} {
		var o Observation
		o.Facts.Families[fwmark.IPv4] = true
		o.Facts.Addrs = []policy.Address{{Prefix: netip.MustParsePrefix("192.0.2.10/24")}}
		o.Facts.Rules = []policy.Rule{{Action: policy.Lookup, Table: policy.TableMain}, {Action: policy.Lookup, Table: 5}}
		o.ReadTables = o.RouteTables()
		c.change(&o)
		if got := o.Behind(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
