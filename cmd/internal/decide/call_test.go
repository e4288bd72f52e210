package decide

import (
	"net/netip"
	"slices"
	"testing"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/config"
	"wg-multihome/nft"
	"wg-multihome/policy"
)

// TestCallOpensTheLock: where the original script keeps the rules, they are not
// ours, and the second lock lets a mark leave by its uplink all the same, also
// where services are pinned.
func TestCallOpensTheLock(t *testing.T) {
	mark := fwmark.Mark{Value: 0x2005, Mask: fwmark.FullMask}
	var o Observation
	o.Config = config.Config{Priority: policy.DefaultPriority, Intents: []fwmark.Intent{{Uplink: "up2", Mark: mark, Cgroups: []string{"a.service"}}}}
	o.Facts = policy.Facts{
		Families: [2]bool{true, true},
		Links:    []policy.Link{{Name: "up2", Up: true}},
		Addrs:    []policy.Address{{Device: "up2", Prefix: netip.MustParsePrefix("198.51.100.10/24"), Global: true}},
		Rules:    []policy.Rule{{Family: fwmark.IPv4, Priority: 32754, Mark: mark, Action: policy.Unreachable}},
	}
	o.Cgroups.ByPath = map[string]nft.Cgroup{"a.service": {ID: 7, Level: 1}}
	d := ForCall(o, Memory{}, Call{Uplink: "up2", Mark: mark, Table: 1})
	for range Rounds {
		for _, p := range Phases {
			d = d.after(d.Steps(p))
		}
	}
	if claims := d.Table.Have.Claims(); !slices.Equal(claims, []fwmark.Claim{{Mark: mark, Uplink: "up2"}}) {
		t.Errorf("the lock holds %+v", claims)
	}
	if ids := d.Table.Have.Sets[nft.PathsSet(mark)].Cgroups; !slices.Equal(ids, []uint64{7}) {
		t.Errorf("services %v are pinned", ids)
	}
	if left := d.Plan(); len(left) > 0 {
		t.Errorf("still to be done: %q", left)
	}
}
