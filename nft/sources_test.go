package nft_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
)

// TestForeignSources: of a mark that sockets have, what leaves by its uplink from
// another uplink's address is dropped; without such a mark there is no chain.
func TestForeignSources(t *testing.T) {
	f := readFacts(t, `uplink up1 192.0.2.10 2001:db8:1::10
uplink up2 198.51.100.10
uplink up3 203.0.113.10 203.0.113.11
pin 0x1001 up1
pin 0x2000/0xff00 up2
pin 0x3001 -`)
	part := func() string {
		text := nft.Want(f).String()
		_, chain, there := strings.Cut(text, "	chain foreign_sources {\n")
		if !there {
			return ""
		}
		chain, _, _ = strings.Cut(chain, "	}\n")
		for _, s := range nft.Want(f).Sets {
			if strings.HasPrefix(s.Name, "others") {
				chain += s.Name
				for _, r := range s.Ranges {
					chain += " " + r.String()
				}
				chain += "\n"
			}
		}
		return chain
	}
	if got := part(); got != "" {
		t.Errorf("no socket has a mark, and there is %s", got)
	}
	f.Sockets = map[fwmark.Mark]bool{f.Pins[0].Mark: true, f.Pins[1].Mark: true, f.Pins[2].Mark: true}
	const want = `		type filter hook postrouting priority srcnat + 1; policy accept;
		meta mark 0x00000000 accept
		meta mark 0x00001001 oifname "up1" ip saddr @others4_up1 counter name "lock_0x1001" drop
		meta mark & 0x0000ff00 == 0x00002000 oifname "up2" ip saddr @others4_up2 counter name "lock_0x2000" drop
		meta mark & 0x0000ff00 == 0x00002000 oifname "up2" ip6 saddr @others6_up2 counter name "lock_0x2000" drop
others4_up1 198.51.100.10-198.51.100.10 203.0.113.10-203.0.113.11
others4_up2 192.0.2.10-192.0.2.10 203.0.113.10-203.0.113.11
others6_up2 2001:db8:1::10-2001:db8:1::10
`
	if diff := cmp.Diff(want, part()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
