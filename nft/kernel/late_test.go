package kernel

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"wg-multihome/nft"
)

// TestExpectAgain: an answer that is expected again is dropped as long as one that is
// expected for the first time.
func TestExpectAgain(t *testing.T) {
	c := namespace(t)
	f := everything()
	must(t, c.Apply(nft.Diff(nft.State{}, nft.Want(f), nil)))
	port := func(addr string) netip.AddrPort { return netip.MustParseAddrPort(addr) }
	first := nft.Late{From: port("203.0.113.9:7"), To: port("192.0.2.10:5000")}
	other := nft.Late{From: port("[2001:db8:9::9]:7"), To: port("[2001:db8:1::10]:5000")}
	must(t, c.Expect([]nft.Late{first, first, other}))
	seconds := func(set string) (list []int) {
		for _, m := range regexp.MustCompile(`expires (\d+)s`).FindAllStringSubmatch(run(t, "nft", "list", "set", "inet", nft.Table, set), -1) {
			n, err := strconv.Atoi(m[1])
			must(t, err)
			list = append(list, n)
		}
		return list
	}
	for last := time.Now().Add(nft.LateTime); seconds("late4")[0] >= 8; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(last) {
			t.Fatal("they grow no older")
		}
	}
	more := nft.Late{From: port("203.0.113.9:9"), To: first.To}
	must(t, c.Expect([]nft.Late{first, more}))
	old, renewed := seconds("late6"), seconds("late4")
	if len(old) != 1 || len(renewed) != 2 || slices.Min(renewed) <= old[0] {
		t.Errorf("seconds left: %d of those that were renewed, %d of the other", renewed, old)
	}
}
