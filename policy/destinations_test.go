package policy_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wg-multihome/policy"
	"wg-multihome/policy/policytest"
)

// foreign reads rules and routes as a step's text has them, and makes them
// somebody else's.
func foreign(t *testing.T, lines string) (f policy.Facts) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		s, err := policytest.ParseStep("+ " + strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		if s.IsRoute {
			s.Route.Protocol = 2
			f.Routes = append(f.Routes, s.Route)
		} else {
			s.Rule.Protocol = 0
			f.Rules = append(f.Rules, s.Rule)
		}
	}
	return f
}

func TestDestinationsByDevice(t *testing.T) {
	f := foreign(t, `
route 4 main default via 192.0.2.1 dev up1
route 4 main 0.0.0.0/1 dev tun0
route 4 main 64.0.0.0/2 dev tun0
route 4 main 192.0.2.0/24 dev up1
route 4 main type-7 10.9.0.0/16 dev up1
route 4 77 10.0.0.0/8 dev wg7
route 4 77 default dev wg7
route 4 78 10.1.0.0/16 dev unseen
route 6 main 2001:db8:1::/64 dev up1 metric 256
route 4 79 default dev tun1
route 4 79 172.16.0.0/12 dev tun2
rule 4 100 lookup 77
rule 4 101 to 203.0.113.0/24 lookup 77
rule 4 102 to 0.0.0.0/1 lookup 77
rule 4 103 to 172.16.5.0/24 lookup 79
rule 4 104 to 198.18.0.0/15 lookup 79 suppress_prefixlength 0
rule 4 105 not to 198.51.100.0/24 lookup 79
rule 4 106 to 192.168.7.0/24 unreachable
`)
	ours := f.Rules[1]
	ours.Protocol, ours.To = policy.Protocol, netip.MustParsePrefix("100.64.0.0/10")
	f.Rules = append(f.Rules, ours)
	f.Addrs = []policy.Address{
		{Device: "up1", Broadcast: netip.MustParseAddr("192.0.2.63"), Prefix: netip.MustParsePrefix("192.0.2.10/24")},
		{Device: "up1", Prefix: netip.MustParsePrefix("192.0.2.11/31")}, {Device: "up1", Prefix: netip.MustParsePrefix("2001:db8:1::1/64")},
	}
	got := map[string]string{}
	for device, list := range policy.DestinationsByDevice(f, nil) {
		got[device] = texts(list)
	}
	want := map[string]string{
		"tun0": "64.0.0.0/2",
		"up1":  "192.0.2.0/24 192.0.2.255/32 192.0.2.63/32 2001:db8:1::/64",
		"wg7":  "10.0.0.0/8 203.0.113.0/24",
		"tun1": "172.16.5.0/24",
		"tun2": "172.16.0.0/12 172.16.5.0/24",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("wanted (-), got (+):\n%s", diff)
	}
	reach := policy.Reach(f, nil)
	if got := texts(reach[0]) + " and " + texts(reach[1]); got != "192.0.2.0/24 64.0.0.0/2 and 2001:db8:1::/64" {
		t.Errorf("reach %s", got)
	}
}

func texts(list []netip.Prefix) string {
	set := map[string]bool{}
	for _, p := range list {
		set[p.String()] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(set)), " ")
}
