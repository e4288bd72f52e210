package kernel

import (
	"net/netip"
	"os/exec"
	"slices"
	"testing"

	"wg-multihome/policy"
)

// TestAddresses reads what ip(8) made: with a peer, with a broadcast address of
// its own, of all scopes, and not to be used any more.
func TestAddresses(t *testing.T) {
	c := namespace(t)
	build(t, c)
	out, err := exec.Command("ip", "-batch", "testdata/addresses").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f, err := c.Facts()
	must(t, err)
	broadcast := netip.MustParseAddr
	for _, want := range []policy.Address{
		{Device: "lo", Prefix: netip.MustParsePrefix("198.18.0.1/24"), Broadcast: broadcast("198.18.0.255"), Global: true},
		{Device: "lo", Prefix: netip.MustParsePrefix("198.18.1.1/24"), Broadcast: broadcast("198.18.1.77"), Global: true},
		{Device: "lo", Prefix: netip.MustParsePrefix("198.18.2.1/32"), Global: true}, // the length is the peer's
		{Device: "lo", Prefix: netip.MustParsePrefix("198.18.3.1/24")},
		{Device: "lo", Prefix: netip.MustParsePrefix("2001:db8:18::1/64"), Global: true},
		{Device: "lo", Prefix: netip.MustParsePrefix("2001:db8:18::2/128"), Global: true},
		{Device: "lo", Prefix: netip.MustParsePrefix("2001:db8:18::3/64"), Global: true, Deprecated: true},
	} {
		if !slices.Contains(f.Addrs, want) {
			t.Errorf("no %+v in:\n%+v", want, f.Addrs)
		}
	}
	if i := slices.IndexFunc(f.Links, func(l policy.Link) bool { return l.Name == "lo" }); i < 0 || !f.Links[i].Loopback || f.Links[i].Kind != "" {
		t.Errorf("links %+v", f.Links)
	}
	if i := slices.IndexFunc(f.Links, func(l policy.Link) bool { return l.Kind == "veth" && l.Up && !l.Loopback && !l.WireGuard }); i < 0 {
		t.Errorf("links %+v", f.Links)
	}
}
