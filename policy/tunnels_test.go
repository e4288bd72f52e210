package policy_test

import (
	"fmt"
	"net/netip"
	"testing"

	"wg-multihome/policy"
)

// TestTunnelsBeforeTheirRule has a device whose mark is the number of a table
// with a route through it.
func TestTunnelsBeforeTheirRule(t *testing.T) {
	const local = 255
	for name, c := range map[string]struct {
		table uint32
		kind  policy.RouteType
		dst   string
		want  string
	}{
		"wg-quick's":           {51820, policy.Unicast, "0.0.0.0/0", "[{wg0 0xca6c}]"},
		"the device's address": {local, 2, "10.200.0.1/32", "[]"},
		"its broadcast":        {local, 3, "10.200.0.255/32", "[]"},
		"IPv6's multicast":     {local, 5, "ff00::/8", "[]"},
		"main":                 {policy.TableMain, policy.Unicast, "0.0.0.0/0", "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			f := policy.Facts{Routes: []policy.Route{{Table: c.table, Type: c.kind, Dst: netip.MustParsePrefix(c.dst), Device: "wg0"}}}
			if got := fmt.Sprint(policy.Tunnels(f, map[string]uint32{"wg0": c.table})); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
