package clients_test

import (
	"net/netip"
	"strings"
	"testing"

	"wg-multihome/cmd/internal/clients"
	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

func defaultBy(device string, protocol uint8, metric uint32) policy.Route {
	return policy.Route{Family: fwmark.IPv6, Table: policy.TableMain, Dst: netip.MustParsePrefix("::/0"), Type: policy.Unicast,
		Gateway: netip.MustParseAddr("fe80::1"), Device: device, Protocol: protocol, Metric: metric}
}

// TestCheck has each fault alone, and beside it what is none.
func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		facts clients.Facts
		want  string // parts of the findings; "!" in front: an error
	}{
		"nothing": {clients.Facts{}, ""},
		"forwarding without accept_ra=2": {clients.Facts{Links: []clients.Link{
			{Name: "wan1.5", Forwarding: true, AcceptRA: 1}, {Name: "wan2", Forwarding: true, AcceptRA: 2}, {Name: "wan3", AcceptRA: 1}, {Name: "wan4", Forwarding: true}}},
			"!wan1.5 forwards IPv6"},
		"networkd without the drop-in": {clients.Facts{Links: []clients.Link{{Name: "wan1", Networkd: true}, {Name: "wan2"}}}, "!networkd manages wan1, and"},
		"networkd with it":             {clients.Facts{Spares: true, Links: []clients.Link{{Name: "wan1", Networkd: true}}}, ""},
		"NetworkManager of Debian 12":  {clients.Facts{ManagerVersion: "1.42.4"}, "!NetworkManager 1.42.4 tells nobody"},
		"and watch":                    {clients.Facts{ManagerVersion: "1.42.4", Watch: true}, ""},
		"NetworkManager of Debian 13":  {clients.Facts{ManagerVersion: "1.52.1"}, ""},
		"the first that tells":         {clients.Facts{ManagerVersion: "1.42.6"}, ""},
		"dhclient under it":            {clients.Facts{ManagerVersion: "1.52.1", ManagerDHCP: "dhclient"}, "dhclient for its DHCP client"},
		"its setting alone":            {clients.Facts{ManagerDHCP: "dhclient"}, ""},
		"dhcpcd of two leases":         {clients.Facts{Clients: []clients.Client{{Name: "dhcpcd", Version: "10.1.0", Uplinks: []string{"wan1", "wan2"}}}}, "one dhcpcd 10.1.0 serves wan1, wan2"},
		"dhcpcd of one lease each": {clients.Facts{Clients: []clients.Client{
			{Name: "dhcpcd", Version: "9.4.1", Uplinks: []string{"wan1"}}, {Name: "dhcpcd", Version: "9.4.1", Uplinks: []string{"wan2"}}}}, ""},
		"dhcpcd that is mended": {clients.Facts{Clients: []clients.Client{{Name: "dhcpcd", Version: "10.3.1", Uplinks: []string{"wan1", "wan2"}}}}, ""},
		"udhcpc on two": {clients.Facts{Clients: []clients.Client{{Name: "udhcpc", Uplinks: []string{"wan1"}}, {Name: "udhcpc", Uplinks: []string{"wan2"}}}},
			"udhcpc serves wan1, wan2"},
		"udhcpc on one":             {clients.Facts{Clients: []clients.Client{{Name: "udhcpc", Uplinks: []string{"wan1"}}, {Name: "dhclient", Uplinks: []string{"wan2"}}}}, ""},
		"two routers of one metric": {clients.Facts{Routes: []policy.Route{defaultBy("wan2", 9, 1024), defaultBy("wan1", 9, 1024)}}, "IPv6 defaults by wan1, wan2 all have metric 1024"},
		"networkd's, of one metric": {clients.Facts{Routes: []policy.Route{defaultBy("wan1", 16, 1024), defaultBy("wan2", 16, 1024)}}, "all have metric 1024"},
		"two metrics":               {clients.Facts{Routes: []policy.Route{defaultBy("wan1", 9, 1024), defaultBy("wan2", 9, 1025)}}, ""},
		"two routers of one uplink": {clients.Facts{Routes: []policy.Route{defaultBy("wan1", 9, 1024), defaultBy("wan1", 9, 1024)}}, ""},
		"an administrator's":        {clients.Facts{Routes: []policy.Route{defaultBy("wan1", 3, 1024), defaultBy("wan2", 3, 1024)}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			found := clients.Check(c.facts)
			if c.want == "" {
				if len(found) > 0 {
					t.Errorf("found %+v", found)
				}
				return
			}
			text, isError := strings.CutPrefix(c.want, "!")
			if len(found) != 1 || found[0].Error != isError || !strings.Contains(found[0].Text, text) {
				t.Errorf("found %+v, want %s", found, c.want)
			}
		})
	}
}

// TestErrorsComeFirst, whatever found them.
func TestErrorsComeFirst(t *testing.T) {
	found := clients.Check(clients.Facts{
		Clients:        []clients.Client{{Name: "dhcpcd", Version: "9.4.1", Uplinks: []string{"wan1", "wan2"}}},
		ManagerVersion: "1.42.4", ManagerDHCP: "dhclient", Links: []clients.Link{{Name: "wan1", Networkd: true}},
	})
	if len(found) != 4 || !found[0].Error || !found[1].Error || found[2].Error || found[3].Error {
		t.Errorf("%+v", found)
	}
}
