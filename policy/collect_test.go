package policy_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"go4.org/netipx"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// TestFeedDecidesTheSame: what decisions are told of many routes is the same
// whether all are kept or most of them are summed up.
func TestFeedDecidesTheSame(t *testing.T) {
	feeds := 0
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			all := crowdedFacts(rand.New(rand.NewPCG(seed, 0)))
			some := all
			some.Routes = nil
			c := policy.CollectRoutes(&some)
			for i := range all.Routes {
				c.Add(&all.Routes[i])
				if i == 100 {
					break
				}
			}
			c.Restart()
			for i := range all.Routes {
				c.Add(&all.Routes[i])
			}
			c.Done()
			feeds += len(some.Feeds)
			want, got := policy.DestinationsByDevice(all, nil), policy.DestinationsByDevice(some, nil)
			for device := range want {
				sameRanges(t, "behind "+device, want[device], got[device])
			}
			if len(want) != len(got) {
				t.Errorf("devices: %d, want %d", len(got), len(want))
			}
			for family, reach := range policy.Reach(all, nil) {
				sameRanges(t, "reach", reach, policy.Reach(some, nil)[family])
			}
			for _, gateway := range []string{"203.0.113.9", "203.0.114.9"} {
				for _, facts := range []*policy.Facts{&all, &some} {
					facts.Leases = []policy.Lease{{Device: "up1", Address: facts.Addrs[0].Prefix.Addr(), Gateway: netip.MustParseAddr(gateway)}}
				}
				if w, g := wantedRoutes(all), wantedRoutes(some); !slices.Equal(w, g) || len(w) == 0 {
					t.Errorf("routes %v, want %v", g, w)
				}
			}
		})
	}
	if feeds < 4 {
		t.Errorf("only %d feeds", feeds)
	}
}

// TestFeedIsNotKept: of a full feed through one device only the first routes
// are kept, and those of others' and ours besides.
func TestFeedIsNotKept(t *testing.T) {
	f := policy.Facts{}
	c := policy.CollectRoutes(&f)
	add := func(r policy.Route) { c.Add(&r) }
	const many = 100000
	for i := range uint32(many) {
		n := 20<<24 + i<<9
		add(policy.Route{Table: policy.TableMain, Type: policy.Unicast, Device: "up1", Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8)}), 24)})
	}
	late := []policy.Route{
		{Table: policy.TableMain, Type: policy.Unicast, Device: "up1", Dst: netip.MustParsePrefix("128.0.0.0/1")},
		{Table: policy.TableMain, Type: policy.Unicast, Device: "up2", Dst: netip.MustParsePrefix("198.51.100.0/24")},
		{Table: policy.TableMain, Type: policy.Unicast, Device: "up1", Dst: netip.MustParsePrefix("198.51.101.0/24"), Protocol: policy.Protocol},
	}
	for _, r := range late {
		add(r)
	}
	c.Done()
	if n := len(f.Routes); n != policy.ManyRanges+len(late) || len(f.Feeds) != 1 || !slices.Equal(f.Routes[n-len(late):], late) {
		t.Errorf("%d routes were kept, and %d feeds: %v", n, len(f.Feeds), f.Routes[n-len(late):])
	}
	if n := len(policy.DestinationsByDevice(f, nil)["up1"]); n != policy.ManyRanges+1 {
		t.Errorf("%d destinations", n)
	}
}

// crowdedFacts is a host with many routes, most of them in a few blocks: some
// sorted as the kernel lists them, some not; some of one range, some not.
func crowdedFacts(r *rand.Rand) policy.Facts {
	f := policy.Facts{
		Families: [2]bool{true, true},
		Links:    []policy.Link{{Name: "up1", Up: true}, {Name: "up2", Up: true}},
		Addrs:    []policy.Address{{Device: "up1", Prefix: netip.MustParsePrefix("192.0.2.7/24"), Global: true}},
		Rules: []policy.Rule{
			{Priority: 5, Action: policy.Lookup, Table: 7},
			{Priority: 6, Action: policy.Lookup, Table: 8, To: netip.MustParsePrefix("20.1.2.0/24")},
			{Priority: 7, Action: policy.Lookup, Table: policy.TableMain, To: netip.MustParsePrefix("20.1.2.3/32"), Suppresses: true, Suppress: 18},
		},
	}
	for _, device := range []string{"up1", "up2", "wg0"} {
		for _, family := range fwmark.Families {
			var routes []policy.Route
			spacing := r.Uint32N(3)
			longest := 16 + r.IntN(12)
			for i := range r.Uint32N(20000) {
				bits := longest - r.IntN(4)
				b := make([]byte, family.Bits()/8)
				n := 20<<24 + i<<(8+spacing)
				if r.IntN(50) == 0 {
					n = r.Uint32()
				}
				b[0], b[1], b[2], b[3] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
				addr, _ := netip.AddrFromSlice(b)
				route := policy.Route{
					Family: family, Table: []uint32{policy.TableMain, 7, 8}[r.IntN(3)], Type: policy.Unicast, Device: device,
					Dst: netip.PrefixFrom(addr, bits).Masked(), Protocol: 12, Metric: i % 3,
				}
				switch r.IntN(20) {
				case 0:
					route.Type, route.Device = policy.BlackholeRoute, ""
				case 1, 2:
				default:
					route.Gateway = family.Unspecified().Next()
				}
				routes = append(routes, route)
			}
			if r.IntN(3) > 0 {
				slices.SortStableFunc(routes, func(a, b policy.Route) int { return a.Dst.Addr().Compare(b.Dst.Addr()) })
			}
			f.Routes = append(f.Routes, routes...)
			// What a foreign rule's `to` lies in, and what a gateway does.
			for table, dst := range map[uint32]string{policy.TableMain: "203.0.113.0/25", 8: "20.1.0.0/16"} {
				f.Routes = append(f.Routes, policy.Route{Table: table, Type: policy.Unicast, Device: device, Dst: netip.MustParsePrefix(dst)})
			}
		}
	}
	return f
}

func wantedRoutes(f policy.Facts) []policy.Route {
	uplinks, _ := policy.Uplinks(f, nil, false)
	return policy.Want(f, uplinks, nil, policy.DefaultPriority).Routes
}

// sameRanges compares what lists of prefixes hold, or that both have too many.
func sameRanges(t *testing.T, what string, want, got []netip.Prefix) {
	t.Helper()
	w, g := rangesOf(t, want), rangesOf(t, got)
	if len(w) > policy.ManyRanges {
		if len(g) <= policy.ManyRanges {
			t.Errorf("%s: %d ranges, want %d", what, len(g), len(w))
		}
		return
	}
	if !slices.Equal(w, g) {
		t.Errorf("%s: %d ranges, want %d", what, len(g), len(w))
	}
}

func rangesOf(t *testing.T, prefixes []netip.Prefix) []netipx.IPRange {
	t.Helper()
	var b netipx.IPSetBuilder
	for _, p := range prefixes {
		b.AddPrefix(p)
	}
	set, err := b.IPSet()
	if err != nil {
		t.Fatal(err)
	}
	return set.Ranges()
}
