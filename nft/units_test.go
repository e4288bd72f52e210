package nft

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"wg-multihome/fwmark"
)

func TestSetNames(t *testing.T) {
	for device, want := range map[string]string{
		"up1": "via4_up1", "enp2s0.5": "via4_enp2s0.5", "br-lan_1": "via4_br-lan_1", "a@b": "via4_a/40b", "ä": "via4_/c3/a4", "x/2f": "via4_x/2f2f",
	} {
		if got := setName("via4_", device); got != want {
			t.Errorf("%q: %s, want %s", device, got, want)
		}
	}
}

// TestSetNamesDiffer: what nft(8) can read, and no two devices in one set.
func TestSetNamesDiffer(t *testing.T) {
	readable := regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9/\\_.-]*$`)
	name := rapid.StringOfN(rapid.SampledFrom([]rune("ab/@2f4 0é")), 1, 6, 15)
	rapid.Check(t, func(t *rapid.T) {
		a, b := name.Draw(t, "a"), name.Draw(t, "b")
		if (a == b) != (setName("via4_", a) == setName("via4_", b)) {
			t.Errorf("%q and %q: %s and %s", a, b, setName("via4_", a), setName("via4_", b))
		}
		if got := setName("via4_", a); !readable.MatchString(got) {
			t.Errorf("%q: nft(8) cannot read %s", a, got)
		}
	})
}

func TestMerged(t *testing.T) {
	for _, c := range []struct {
		prefixes []string
		want     [2][]string
	}{
		{nil, [2][]string{}},
		{[]string{"10.0.0.0/8", "10.1.0.0/16"}, [2][]string{{"10.0.0.0-10.255.255.255"}}},
		{[]string{"10.1.0.0/16", "10.0.0.0/16", "9.0.0.0/8"}, [2][]string{{"9.0.0.0-10.1.255.255"}}},
		{[]string{"::/1", "8000::/1", "0.0.0.0/1"}, [2][]string{{"0.0.0.0-127.255.255.255"}, {"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}}},
		{[]string{"192.0.2.1/24"}, [2][]string{{"192.0.2.0-192.0.2.255"}}},
	} {
		var prefixes []netip.Prefix
		for _, p := range c.prefixes {
			prefixes = append(prefixes, netip.MustParsePrefix(p))
		}
		var got [2][]string
		for f, ranges := range merged(prefixes) {
			for _, r := range ranges {
				got[f] = append(got[f], r.String())
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.prefixes, diff)
		}
	}
}

// TestMergedHoldsTheSame addresses, in ranges that neither touch nor overlap.
func TestMergedHoldsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var prefixes []netip.Prefix
		for range rapid.IntRange(0, 6).Draw(t, "how many") {
			a := netip.AddrFrom4([4]byte{10, 0, 0, rapid.Byte().Draw(t, "address")})
			prefixes = append(prefixes, netip.PrefixFrom(a, rapid.IntRange(24, 32).Draw(t, "bits")))
		}
		ranges := merged(prefixes)[fwmark.IPv4]
		for i := range 256 {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
			in := slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
			if within := slices.ContainsFunc(ranges, func(r netipx.IPRange) bool { return r.Contains(a) }); in != within {
				t.Errorf("%v: %s in %v is %v", prefixes, a, ranges, within)
			}
		}
		for i := 1; i < len(ranges); i++ {
			if !ranges[i-1].To().Next().Less(ranges[i].From()) {
				t.Errorf("%s touches %s", ranges[i-1], ranges[i])
			}
		}
	})
}

func TestFull(t *testing.T) {
	d := Device{Name: "up1"}
	for i := range MaxRanges {
		d.Prefixes = append(d.Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 0}), 25))
	}
	if d.LeftOut() {
		t.Errorf("full with %d ranges", MaxRanges)
	}
	d.Prefixes = append(d.Prefixes, netip.MustParsePrefix("20.0.0.0/26")) // within the first one: no range more
	if d.LeftOut() {
		t.Error("full with a prefix within another")
	}
	d.Prefixes = append(d.Prefixes, netip.MustParsePrefix("2001:db8::/32"))
	if !d.LeftOut() {
		t.Error("not full with one range of the other family more")
	}
}

// TestFullFeedInMain: where main leads nearly everywhere by longer routes there
// is no set of them, and nothing is reset.
func TestFullFeedInMain(t *testing.T) {
	f := Facts{Pins: []fwmark.Pin{{Mark: fwmark.Mark{Value: 0x2005, Mask: fwmark.FullMask}, Uplink: "up2", Cgroups: []string{}}}}
	resets := func() (sets []string, rules int) {
		want := Want(f)
		for _, s := range want.Sets {
			if s.Type == Prefixes {
				sets = append(sets, s.Name)
			}
		}
		return sets, strings.Count(want.String(), "reject with tcp reset")
	}
	for i := range MaxRanges {
		f.Reach[fwmark.IPv4] = append(f.Reach[fwmark.IPv4], netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 0}), 25))
	}
	if sets, rules := resets(); !slices.Equal(sets, []string{"reach4", "reach6"}) || rules != 2 {
		t.Errorf("with %d ranges: %v, %d rules", MaxRanges, sets, rules)
	}
	f.Reach[fwmark.IPv4] = append(f.Reach[fwmark.IPv4], netip.MustParsePrefix("10.0.0.0/8"))
	if sets, rules := resets(); !slices.Equal(sets, []string{"reach6"}) || rules != 1 {
		t.Errorf("with one range more: %v, %d rules", sets, rules)
	}
}

func TestSysctls(t *testing.T) {
	r := Ruleset{Chains: []Chain{
		{Name: sourcesChain, Rules: []Rule{{{Kind: OutDevice, Name: "up2"}, {Kind: Masquerade}}}},
		{Name: "lock_0x1", Rules: []Rule{{{Kind: OutDevice, Name: "up1"}, {Kind: Accept}}}},
	}}
	for _, c := range []struct {
		f    Filter // of up2, and of up1 too
		want []string
		bare []string // where nothing is wanted
	}{
		{Filter{}, nil, nil},
		{Filter{RPFilter: 1}, []string{"up2 1"}, nil},
		{Filter{AllRPFilter: 1}, []string{"up2 1"}, nil},
		{Filter{RPFilter: 2, AllRPFilter: 1}, nil, nil},
		{Filter{RPFilter: 1, AllRPFilter: 2}, nil, nil},
		{Filter{RPFilter: 1, AllValidMark: 1}, nil, nil},
		{Filter{RPFilter: 1, ValidMark: 1}, nil, nil},
		{Filter{RPFilter: 1, ValidMark: 1, Ours: true}, []string{"up1 0"}, []string{"up1 0", "up2 0"}},
		{Filter{RPFilter: 0, ValidMark: 1, Ours: true}, []string{"up1 0", "up2 0"}, []string{"up1 0", "up2 0"}},
		{Filter{RPFilter: 1, ValidMark: 0, Ours: true}, []string{"up2 1"}, nil},
	} {
		one, two := c.f, c.f
		one.Device, two.Device = "up1", "up2"
		filters := []Filter{two, one}
		for what, w := range map[string]struct {
			ruleset Ruleset
			want    []string
		}{"services": {r, c.want}, "nothing": {Ruleset{}, c.bare}} {
			var got []string
			for _, s := range Sysctls(w.ruleset, filters) {
				got = append(got, fmt.Sprintf("%s %d", s.Device, s.Value))
			}
			if diff := cmp.Diff(w.want, got); diff != "" {
				t.Errorf("%s, %+v (-want +got):\n%s", what, c.f, diff)
			}
		}
	}
	if got, want := (Sysctl{"enp2s0.5", 1}).String(), "= sysctl net.ipv4.conf.enp2s0/5.src_valid_mark 1"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
}

func TestTunnelStale(t *testing.T) {
	noted := map[string]bool{"stands": true, "gone": true, "set back": true, "to be set": true}
	filters := []Filter{{Device: "stands", ValidMark: 1, Ours: true}, {Device: "set back", Ours: true}, {Device: "to be set", Ours: true}, {Device: "another"}}
	if diff := cmp.Diff([]string{"gone", "set back"}, ObsoleteNotes(noted, filters, []Sysctl{{"to be set", 1}})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
