package policy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// TestTooManyCopies: of more routes than a table of ours may hold none is copied, but
// what is on-link at the uplink, and it is said. Others are, beside them.
func TestTooManyCopies(t *testing.T) {
	private, public := "10.0.0.0/28", "16.0.0.0/24"
	for name, c := range map[string]struct {
		many          int
		block, device string
		copies        int // in the table of up0
		left          string
	}{
		"as many as there is room for":          {policy.MaxCopies - 5, private, "tun0", policy.MaxCopies - 1, ""},
		"private ones behind a tunnel":          {policy.MaxCopies + 1, private, "tun0", 4, "main's IPv4 routes to private destinations through tun0: more than 4096"},
		"public ones behind a tunnel":           {policy.MaxCopies + 1, public, "tun0", 4, "main's IPv4 routes through tun0: more than 4096"},
		"a feed by the uplink":                  {policy.MaxCopies + 1, public, "up0", 4, "main's IPv4 routes through up0: more than 4096"},
		"a feed by another uplink":              {policy.MaxCopies + 1, public, "up1", 4, "main's IPv4 routes through up1: more than 4096"},
		"private ones by another uplink, a few": {10, private, "up1", 14, ""},
		"of a LAN":                              {policy.MaxCopies + 1, private, "lan0", 4, ""},
	} {
		all := manyUplinks(8, c.many, c.block, c.device)
		summed := all // as they are read from the kernel
		summed.Routes = nil
		collector := policy.CollectRoutes(&summed)
		for i := range all.Routes {
			collector.Add(&all.Routes[i])
		}
		collector.Done()
		for kind, f := range map[string]policy.Facts{"": all, ", summed up": summed} {
			uplinks, _ := policy.Uplinks(f, nil, false)
			w := policy.Want(f, uplinks, nil, policy.DefaultPriority)
			copies := 0
			for _, r := range w.Routes {
				if r.Table == policy.TableOf(netip.MustParseAddr("192.168.0.10")) && r.Dst.Bits() > 0 {
					copies++
				}
			}
			if left := strings.Join(w.Destinations.Left, "\n"); copies != c.copies || c.left == "" && left != "" || !strings.Contains(left, c.left) {
				t.Errorf("%s%s: %d copies, %q", name, kind, copies, left)
			}
		}
	}
}

// TestOneSubnetIsNotCopied: what is on-link at an uplink is its own, whatever main
// has of it through another one.
func TestOneSubnetIsNotCopied(t *testing.T) {
	f := manyUplinks(2, 0, "10.0.0.0/28", "tun0")
	uplinks, _ := policy.Uplinks(f, nil, false)
	d := policy.Want(f, uplinks, nil, policy.DefaultPriority).Destinations
	for i, name := range []string{"up0", "up1"} {
		owner := d.Of(name, netip.MustParseAddr("192.168.0.77"))
		if owner.Whose != policy.TheUplink || owner.Route.Device != name {
			t.Errorf("%d: %+v", i, owner)
		}
		if rest := d.Of(name, netip.MustParseAddr("9.9.9.9")); rest.Whose != policy.TheRest || rest.Route.Device != name {
			t.Errorf("%d: %+v", i, rest)
		}
		if list := d.Copies(name, fwmark.IPv4); len(list) != 1 || fmt.Sprint(list[0].Dst) != "192.168.0.0/24" {
			t.Errorf("%d: %v", i, list)
		}
	}
}
