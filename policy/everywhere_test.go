package policy_test

import (
	"bufio"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go4.org/netipx"
	"pgregory.net/rapid"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

func prefixesIn(t testing.TB, text string) []netip.Prefix {
	t.Helper()
	var list []netip.Prefix
	words := bufio.NewScanner(strings.NewReader(text))
	words.Split(bufio.ScanWords)
	for words.Scan() {
		p, err := netip.ParsePrefix(words.Text())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

// allBut returns the prefixes of a family but for some, as calculators of
// AllowedIPs do.
func allBut(t testing.TB, text string) []netip.Prefix {
	t.Helper()
	var b netipx.IPSetBuilder
	for _, p := range prefixesIn(t, text) {
		b.AddPrefix(netip.PrefixFrom(fwmark.FamilyOf(p.Addr()).Unspecified(), 0))
	}
	for _, p := range prefixesIn(t, text) {
		b.RemovePrefix(p)
	}
	set, err := b.IPSet()
	if err != nil {
		t.Fatal(err)
	}
	return set.Prefixes()
}

// manyPrefixes returns so many prefixes of a length, from the first one on, of
// which no two adjoin.
func manyPrefixes(n int, first string) []netip.Prefix {
	list := make([]netip.Prefix, 0, n)
	p := netip.MustParsePrefix(first)
	for range n {
		list = append(list, p)
		for range 2 {
			p = netip.PrefixFrom(netipx.PrefixLastIP(p).Next(), p.Bits())
		}
	}
	return list
}

func TestLeadsEverywhere(t *testing.T) {
	in := func(text string) []netip.Prefix { return prefixesIn(t, text) }
	for name, c := range map[string]struct {
		prefixes []netip.Prefix
		want     bool
	}{
		"nothing":                        {nil, false},
		"a default":                      {in("0.0.0.0/0"), true},
		"one half":                       {in("128.0.0.0/1"), true},
		"two halves":                     {in("0.0.0.0/1 128.0.0.0/1"), true},
		"four quarters":                  {in("0.0.0.0/2 64.0.0.0/2 128.0.0.0/2 192.0.0.0/2"), true},
		"a netmask of /2":                {in("64.0.0.0/2"), true},
		"192/2, half of it multicast":    {in("192.0.0.0/2"), false},
		"eight eighths":                  {in("0.0.0.0/3 32.0.0.0/3 64.0.0.0/3 96.0.0.0/3 128.0.0.0/3 160.0.0.0/3 192.0.0.0/3 224.0.0.0/3"), true},
		"one eighth":                     {in("32.0.0.0/3"), false},
		"all but private networks":       {allBut(t, "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16"), true},
		"all but what is special":        {allBut(t, "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 224.0.0.0/3"), true},
		"WARP":                           {allBut(t, "10.0.0.0/8 100.64.0.0/10 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.168.0.0/16 224.0.0.0/24 240.0.0.0/4 255.255.255.255/32 162.159.197.3/32"), true},
		"WARP's longer half alone":       {in("0.0.0.0/5 8.0.0.0/7 11.0.0.0/8 12.0.0.0/6 16.0.0.0/4 32.0.0.0/3"), true},
		"private networks":               {in("10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 169.254.0.0/16"), false},
		"loopback, multicast, class E":   {in("127.0.0.0/8 224.0.0.0/4 240.0.0.0/4"), false},
		"a split tunnel":                 {in("10.9.0.0/16 203.0.113.0/24 198.51.100.0/24"), false},
		"a legacy /8":                    {in("44.0.0.0/8"), false},
		"one /2 in pieces that overlap":  {in("128.0.0.0/3 160.0.0.0/4 176.0.0.0/4 128.0.0.0/9 129.0.0.0/24 160.0.0.0/12"), true},
		"one piece many times":           {slices.Repeat(in("128.0.0.0/4"), 5000), false},
		"pieces that alternate":          {slices.Repeat(in("128.0.0.0/24 9.0.0.0/24"), 5000), false},
		"1,000 prefixes":                 {manyPrefixes(1000, "9.0.0.0/24"), false},
		"1,001 prefixes, a feed":         {manyPrefixes(1001, "9.0.0.0/24"), true},
		"20,000 private prefixes":        {manyPrefixes(20000, "10.0.0.0/28"), false},
		"1,000 prefixes and private":     {append(manyPrefixes(1000, "9.0.0.0/24"), manyPrefixes(5000, "10.0.0.0/28")...), false},
		"IPv6: a default":                {in("::/0"), true},
		"IPv6: 2000::/3":                 {in("2000::/3"), true},
		"IPv6: half of all":              {in("::/1"), true},
		"IPv6: the other half":           {in("8000::/1"), false},
		"IPv6: a whole block":            {in("2600::/12"), true},
		"IPv6: a block in two":           {in("2600::/13 2608::/13"), true},
		"IPv6: 2001::/16":                {in("2001::/16"), true},
		"IPv6: halves of three blocks":   {in("2600::/13 2800::/13 2a00::/13"), true},
		"IPv6: halves of two blocks":     {in("2600::/13 2800::/13"), false},
		"IPv6: unique local, multicast":  {in("fc00::/7 fe80::/10 ff00::/8"), false},
		"IPv6: a site's":                 {in("2001:db8::/32 2a00:1:2::/48 fd00::/8"), false},
		"IPv6: 6to4":                     {in("2002::/16"), false},
		"IPv6: all but unique local":     {allBut(t, "fc00::/7 fe80::/10 ff00::/8"), true},
		"IPv6: a feed":                   {manyPrefixes(1001, "2a00::/48"), true},
		"IPv6: a block in /65 and so on": {allBut6(t, "2400::/12"), true},
	} {
		if got := policy.LeadsEverywhere(c.prefixes); got != c.want {
			t.Errorf("%s: leads everywhere: %t", name, got)
		}
		slices.Reverse(c.prefixes)
		if got := policy.LeadsEverywhere(c.prefixes); got != c.want {
			t.Errorf("%s, from behind: leads everywhere: %t", name, got)
		}
	}
}

// allBut6 cuts a block into its address 0 and what is beside it.
func allBut6(t testing.TB, block string) []netip.Prefix {
	t.Helper()
	p := netip.MustParsePrefix(block)
	var b netipx.IPSetBuilder
	b.AddPrefix(p)
	b.Remove(p.Addr())
	set, err := b.IPSet()
	if err != nil {
		t.Fatal(err)
	}
	return append(set.Prefixes(), netip.PrefixFrom(p.Addr(), 128))
}

// publicNets are the /16 networks of the public space, each with the block that
// it is in: of IPv4 the /8, of IPv6 the /12 or /16.
func publicNets(family fwmark.Family) map[int]int {
	nets := map[int]int{}
	for n := range 1 << 16 {
		first, second := n>>8, n&0xff
		switch {
		case family == fwmark.IPv6:
			for _, block := range []int{0x2400, 0x2600, 0x2800, 0x2a00, 0x2c00} {
				if n&0xfff0 == block {
					nets[n] = block
				}
			}
			if n == 0x2001 {
				nets[n] = n
			}
		case first < 1, first > 223, first == 10, first == 127, n == 192<<8|168, n == 169<<8|254,
			first == 100 && second >= 64 && second < 128, first == 172 && second >= 16 && second < 32:
		default:
			nets[n] = first
		}
	}
	return nets
}

// leadsEverywhere counts /16 networks one by one. All prefixes are of /16 and
// shorter.
func leadsEverywhere(prefixes []netip.Prefix, family fwmark.Family, nets map[int]int) bool {
	covered := map[int]bool{}
	for _, p := range prefixes {
		b := p.Addr().AsSlice()
		first := int(b[0])<<8 | int(b[1])
		for n := first; n < first+1<<(16-p.Bits()); n++ {
			if _, public := nets[n]; public {
				covered[n] = true
			}
		}
	}
	whole := map[int]bool{}
	for _, block := range nets {
		whole[block] = family == fwmark.IPv6
	}
	for n, block := range nets {
		whole[block] = whole[block] && covered[n]
	}
	return slices.Contains(slices.Collect(maps.Values(whole)), true) || 4*len(covered) >= len(nets)
}

func TestLeadsEverywhereAsCountedOneByOne(t *testing.T) {
	nets := [2]map[int]int{publicNets(fwmark.IPv4), publicNets(fwmark.IPv6)}
	rapid.Check(t, func(t *rapid.T) {
		family := anyFamily(t)
		list := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) netip.Prefix {
			b := make([]byte, family.Bits()/8)
			b[0], b[1] = rapid.Byte().Draw(t, "first"), rapid.Byte().Draw(t, "second")
			if family == fwmark.IPv6 { // most of the space is nobody's
				b[0] = rapid.OneOf(rapid.ByteRange(0x20, 0x2d), rapid.Byte()).Draw(t, "first of IPv6")
			}
			a, _ := netip.AddrFromSlice(b)
			return netip.PrefixFrom(a, rapid.IntRange(1, 16).Draw(t, "length")).Masked()
		}), 0, 30).Draw(t, "prefixes")
		got, want := policy.LeadsEverywhere(list), leadsEverywhere(list, family, nets[family])
		if got != want {
			t.Errorf("%v lead everywhere: %t", list, got)
		}
	})
}

// TestFeedsLeadEverywhere compares what is known of routes that were not kept
// one by one with what all of them would say.
func TestFeedsLeadEverywhere(t *testing.T) {
	halfOf := func(block string, n int) []netip.Prefix { return manyPrefixes(n, block) }
	for name, c := range map[string]struct {
		routes map[string][]netip.Prefix
		want   string
	}{
		"a feed beside LANs": {map[string][]netip.Prefix{
			"lan0": manyPrefixes(9000, "10.0.0.0/28"), "wan1": halfOf("16.0.0.0/24", 9000), "lan1": prefixesIn(t, "192.168.1.0/24"),
		}, "[wan1]"},
		"private ones first": {map[string][]netip.Prefix{
			"vpn0": append(manyPrefixes(8000, "10.0.0.0/28"), manyPrefixes(1000, "16.0.0.0/24")...),
			"vpn1": append(manyPrefixes(8000, "10.0.0.0/28"), manyPrefixes(1001, "16.0.0.0/24")...),
			"vpn2": append(manyPrefixes(8000, "10.0.0.0/28"), prefixesIn(t, "64.0.0.0/2")...),
		}, "[vpn1 vpn2]"},
		"a few of them kept": {map[string][]netip.Prefix{
			"vpn0": slices.Concat(manyPrefixes(400, "9.0.0.0/24"), manyPrefixes(8000, "10.0.0.0/28"), manyPrefixes(601, "16.0.0.0/24")),
			"vpn1": slices.Concat(manyPrefixes(400, "9.0.0.0/24"), manyPrefixes(8000, "10.0.0.0/28"), manyPrefixes(600, "9.0.0.0/24")),
		}, "[vpn0]"},
		"IPv6": {map[string][]netip.Prefix{
			"lan0": manyPrefixes(9000, "fd00::/64"), "wan1": manyPrefixes(9000, "2a00::/48"), "wan2": prefixesIn(t, "2000::/3"),
		}, "[wan1 wan2]"},
	} {
		var f policy.Facts
		collector := policy.CollectRoutes(&f)
		for device, list := range c.routes {
			for i, p := range list {
				collector.Add(&policy.Route{Family: fwmark.FamilyOf(p.Addr()), Table: policy.TableMain, Dst: p, Type: policy.Unicast, Device: device, Metric: uint32(i)})
			}
			refused := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			collector.Add(&policy.Route{Table: policy.TableMain, Dst: refused, Type: policy.UnreachableRoute, Device: device})
			collector.Add(&policy.Route{Table: 500, Dst: refused, Type: policy.Unicast, Device: device})
		}
		collector.Done()
		if got := fmt.Sprint(slices.Sorted(maps.Keys(policy.Away(f, nil)))); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// BenchmarkLeadsEverywhere has a million routes, in the order of a full feed.
func BenchmarkLeadsEverywhere(b *testing.B) {
	for name, first := range map[string]string{"public": "16.0.0.0/24", "private": "10.0.0.0/32"} {
		list := manyPrefixes(1_000_000, first)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				policy.LeadsEverywhere(list)
			}
		})
	}
}
