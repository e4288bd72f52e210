package nft_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
)

// TestForeignSources: of a mark that sockets have, or services by packet, what
// leaves by its uplink from another uplink's address is dropped.
func TestForeignSources(t *testing.T) {
	f := readFacts(t, `uplink up1 192.0.2.10 2001:db8:1::10
uplink up2 198.51.100.10
uplink up3 203.0.113.10 203.0.113.11
pin 0x1001 up1
pin 0x2000/0xff00 up2
pin 0x3001 -`)
	part := func() string {
		want := nft.Want(f)
		var text strings.Builder
		for _, c := range want.Chains {
			for _, r := range c.Rules {
				if slices.ContainsFunc(r, func(e nft.Expr) bool { return e.Kind == nft.FromSet }) {
					text.WriteString(c.Name + ": " + r.String() + "\n")
				}
			}
		}
		for _, s := range want.Sets {
			if strings.HasPrefix(s.Name, "others") {
				text.WriteString(s.Name)
				for _, r := range s.Ranges {
					text.WriteString(" " + r.String())
				}
				text.WriteString("\n")
			}
		}
		return text.String()
	}
	if got := part(); got != "" {
		t.Errorf("no socket has a mark, and there is %s", got)
	}
	const (
		first = `lock_0x1001: oifname "up1" ip saddr @others4_up1 iif 0 counter name "lock_0x1001" drop
`
		second = `lock_0x2000/0xff00: oifname "up2" ip saddr @others4_up2 iif 0 counter name "lock_0x2000" drop
lock_0x2000/0xff00: oifname "up2" ip6 saddr @others6_up2 iif 0 counter name "lock_0x2000" drop
`
		firstSet = `others4_up1 198.51.100.10-198.51.100.10 203.0.113.10-203.0.113.11
`
		secondSets = `others4_up2 192.0.2.10-192.0.2.10 203.0.113.10-203.0.113.11
others6_up2 2001:db8:1::10-2001:db8:1::10
`
	)
	f.Pins[1].Cgroups = []string{}
	f.Sockets = map[fwmark.Mark]bool{f.Pins[0].Mark: true}
	if diff := cmp.Diff(first+second+firstSet+secondSets, part()); diff != "" {
		t.Errorf("with a socket and services (-want +got):\n%s", diff)
	}
	f.Pins[1].Cgroups = nil
	f.Sockets = map[fwmark.Mark]bool{f.Pins[1].Mark: true, f.Pins[2].Mark: true}
	if diff := cmp.Diff(second+secondSets, part()); diff != "" {
		t.Errorf("with sockets (-want +got):\n%s", diff)
	}
}
