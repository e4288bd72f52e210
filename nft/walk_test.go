package nft_test

import (
	"net/netip"
	"slices"
	"testing"

	"go4.org/netipx"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
)

// TestSend sends packets through a small ruleset of each kind of way.
func TestSend(t *testing.T) {
	mark := fwmark.Mark{Value: 0x200, Mask: 0xf00}
	chain := func(name, hook string, priority int, rules ...nft.Rule) nft.Chain {
		c := nft.Chain{Name: name, Rules: rules}
		if hook != "" {
			c.Base = nft.Base{Type: "filter", Hook: hook, Priority: priority}
		}
		return c
	}
	rules := nft.WayThrough(nft.Ruleset{
		Sets: []nft.Set{
			{Name: "units", Type: nft.Cgroups, Cgroups: []uint64{7}},
			{Name: "nets", Type: nft.Prefixes, Ranges: []netipx.IPRange{netipx.RangeOfPrefix(netip.MustParsePrefix("10.0.0.0/8"))}},
		},
		Chains: []nft.Chain{
			chain("second", "output", 2, nft.Rule{{Kind: nft.MetaMark, Mark: mark}, {Kind: nft.Count, Name: "n"}, {Kind: nft.Drop}}),
			chain("first", "output", 1,
				nft.Rule{{Kind: nft.CtMark, Mark: mark, Not: true}, {Kind: nft.Jump, Name: "marks"}},
				nft.Rule{{Kind: nft.CtMark, Mark: mark}, {Kind: nft.Goto, Name: "kept"}},
				nft.Rule{{Kind: nft.Drop}}),
			chain("marks", "", 0,
				nft.Rule{{Kind: nft.InCgroup, Level: 2, Name: "units"}, {Kind: nft.SetMetaMark, Mark: mark}, {Kind: nft.SetCtMark, Mark: mark}},
				nft.Rule{{Kind: nft.ToSet, Name: "nets"}, {Kind: nft.Accept}},
				nft.Rule{{Kind: nft.Return}},
				nft.Rule{{Kind: nft.Drop}}),
			chain("kept", "", 0, nft.Rule{{Kind: nft.Confirmed}, {Kind: nft.SetMetaMark, Mark: fwmark.Mark{Value: 0x1, Mask: 0xf}}}),
			chain("out", "postrouting", 1, nft.Rule{{Kind: nft.OutDevice, Name: "wan1"}, {Kind: nft.FromOther}, {Kind: nft.Masquerade}}),
			chain("late", "postrouting", 2, nft.Rule{{Kind: nft.OutKind, Name: "wireguard"}, {Kind: nft.Drop}}),
		},
	})
	world, lan := netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("10.1.2.3")
	for name, c := range map[string]struct {
		hook    string
		packet  nft.Packet
		mark    uint32
		dropped string
	}{
		"comes back from a jump, and is dropped":     {"output", nft.Packet{Dst: world}, 0, "first"},
		"accepted where it was led to":               {"output", nft.Packet{Dst: lan}, 0, ""},
		"accepted by one chain, dropped by the next": {"output", nft.Packet{Dst: lan, Mark: 0x1200}, 0x1200, "second"},
		"marked, and dropped by the next":            {"output", nft.Packet{Dst: world, Cgroups: map[int]uint64{2: 7}}, 0x200, "second"},
		"of another level":                           {"output", nft.Packet{Dst: world, Cgroups: map[int]uint64{1: 7}}, 0, "first"},
		"does not come back from a goto":             {"output", nft.Packet{Dst: world, CtMark: 0x200, Confirmed: true, Mark: 0xff}, 0xf1, ""},
		"by a tunnel":                                {"postrouting", nft.Packet{Out: "wg0", OutKind: "wireguard"}, 0, "late"},
		"by an uplink":                               {"postrouting", nft.Packet{Out: "wan2"}, 0, ""},
	} {
		f := rules.Send(c.hook, c.packet)
		if f.Mark != c.mark || f.Dropped != (c.dropped != "") || f.By != c.dropped || f.Masqueraded {
			t.Errorf("%s: %+v", name, f)
		}
		if counted := slices.Contains(f.CounterNames, "n"); counted != (c.dropped == "second") {
			t.Errorf("%s: counted %t", name, counted)
		}
	}
	if f := rules.Send("postrouting", nft.Packet{Out: "wan1", OutKind: "wireguard"}); !f.Masqueraded || f.By != "late" {
		t.Errorf("masquerade ends its own chain alone: %+v", f)
	}
}
