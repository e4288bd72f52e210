package fwmark

import (
	"net/netip"
	"slices"
	"testing"
)

func TestAgreePrefixes(t *testing.T) {
	p := netip.MustParsePrefix
	lan, wide, long, home := p("198.51.100.0/24"), p("198.51.0.0/16"), p("198.51.100.9/32"), p("2001:db8:5::/56")
	intents := []Intent{
		{Uplink: "up1", Origin: "a", Through: []netip.Prefix{lan, wide}, Sources: []netip.Prefix{home}},
		{Uplink: "up2", Origin: "b", Through: []netip.Prefix{long, lan}, Sources: []netip.Prefix{home}},
		{Uplink: "up3", Origin: "c", Through: []netip.Prefix{home}},
		{Uplink: "up4", Origin: "d", Mark: full(4)},
		{Uplink: "up4", Origin: "e", Sources: []netip.Prefix{p("10.0.0.0/8")}},
	}
	got, problems := AgreePrefixes(intents)
	want := []string{
		`destination prefix 198.51.100.0/24 is claimed by uplink "up1" (a) and by uplink "up2" (b)`,
		`source prefix 2001:db8:5::/56 is claimed by uplink "up1" (a) and by uplink "up2" (b)`,
	}
	if len(problems) != 2 || problems[0].Text != want[0] || problems[1].Text != want[1] {
		t.Errorf("problems: %q", problems)
	}
	for i, want := range [][2][]netip.Prefix{{{wide}}, {{long}}, {{home}}, {}, {}} {
		if !slices.Equal(got[i].Through, want[0]) || !slices.Equal(got[i].Sources, want[1]) {
			t.Errorf("%s: through %v, sources %v, want %v", got[i].Uplink, got[i].Through, got[i].Sources, want)
		}
	}
	if len(intents[0].Through) != 2 || intents[0].Through[0] != lan {
		t.Errorf("the intents that were given changed: %v", intents[0])
	}
}
