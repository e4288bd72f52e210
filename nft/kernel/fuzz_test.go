package kernel

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
)

// kinds are the kinds of answers, as Read asks for them.
var kinds = []struct {
	request uint16
	decode  func(message, *nft.State) error
}{
	{unix.NFT_MSG_GETTABLE, message.table},
	{unix.NFT_MSG_GETCHAIN, message.chain},
	{unix.NFT_MSG_GETRULE, message.rule},
	{unix.NFT_MSG_GETOBJ, message.counter},
	{unix.NFT_MSG_GETSET, message.set},
	{unix.NFT_MSG_GETSETELEM, func(m message, s *nft.State) error {
		for name, set := range s.Sets {
			var list elements
			err := m.elements(&list)
			list.into(&set)
			s.Sets[name] = set
			if err != nil {
				return err
			}
		}
		return nil
	}},
}

// emptyState has a chain and sets of each type, for rules and elements to come
// into.
func emptyState() nft.State {
	return nft.State{Counters: map[string]uint64{}, Chains: map[string]nft.ChainState{"lock": {}}, Sets: map[string]nft.Set{
		"c": {Name: "c", Type: nft.Cgroups}, "4": {Name: "4", Type: nft.Prefixes, Family: fwmark.IPv4},
		"6": {Name: "6", Type: nft.Prefixes, Family: fwmark.IPv6}, "0": {Name: "0"},
	}}
}

// answersOf are real messages, by kind: of a table with everything in it.
func answersOf(f *testing.F, c *Client) [][][]byte {
	f.Helper()
	all := make([][][]byte, len(kinds))
	for i, k := range kinds {
		var requests [][]byte
		if k.request == unix.NFT_MSG_GETSETELEM {
			for _, set := range []string{"via4_up1", "via6_up1", "paths_0x2000"} {
				requests = append(requests, append(word(unix.NFTA_SET_ELEM_LIST_TABLE, nft.Table), word(unix.NFTA_SET_ELEM_LIST_SET, set)...))
			}
		} else {
			requests = append(requests, nil)
		}
		for _, r := range requests {
			if err := c.dump(k.request, r, func(m message) error {
				all[i] = append(all[i], slices.Clone(m))
				return nil
			}); err != nil {
				f.Fatal(err)
			}
		}
		if len(all[i]) == 0 {
			f.Fatalf("kind %d: no answer to begin with", i)
		}
	}
	return all
}

// FuzzAnswers gives each kind of message to its decoder: an error or sense, and
// never a panic.
func FuzzAnswers(f *testing.F) {
	c := namespace(f)
	sync(f, c, everything())
	for kind, answers := range answersOf(f, c) {
		for _, a := range answers {
			f.Add(byte(kind), a)
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, data []byte) {
		s := emptyState()
		if err := kinds[int(kind)%len(kinds)].decode(data, &s); err != nil {
			return
		}
		for _, set := range s.Sets {
			checkSet(t, set)
		}
		for name, c := range s.Chains {
			if c.Fingerprints == nil && name != "lock" {
				t.Errorf("chain %q has nil for its rules", name)
			}
		}
	})
}

// checkSet fails the test unless the set's elements are in order.
func checkSet(t *testing.T, s nft.Set) {
	t.Helper()
	if !slices.IsSorted(s.Cgroups) {
		t.Errorf("cgroups are not sorted: %v", s.Cgroups)
	}
	for i, r := range s.Ranges {
		if !r.IsValid() || fwmark.FamilyOf(r.From()) != s.Family {
			t.Errorf("range %d: %v", i, r)
		}
		if i > 0 && !s.Ranges[i-1].To().Less(r.From()) {
			t.Errorf("range %v overlaps %v", r, s.Ranges[i-1])
		}
	}
}

// FuzzComment reads user data of rules.
func FuzzComment(f *testing.F) {
	f.Add([]byte("\x00\x03ab\x00"))
	f.Add([]byte("\x01\x02xx\x00\x03ab\x00"))
	f.Add([]byte("\x00\xffab"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got := comment(data); len(got) > 255 {
			t.Errorf("%d bytes", len(got))
		}
	})
}

// FuzzRanges puts bounds together in whatever order they come.
func FuzzRanges(f *testing.F) {
	f.Add([]byte{10, 0, 20, 1, 30, 0})
	f.Add([]byte{0, 0, 0, 1, 255, 0, 255, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		var list elements
		for ; len(data) >= 2; data = data[2:] {
			list = append(list, element{key: []byte{10, 0, 0, data[0]}, end: data[1]&1 == 1})
		}
		got := list.ranges(fwmark.IPv4)
		checkSet(t, nft.Set{Family: fwmark.IPv4, Ranges: got})
		slices.Reverse(list)
		text := func() (s []string) {
			for _, r := range list.ranges(fwmark.IPv4) {
				s = append(s, r.String())
			}
			return s
		}
		reversed := text()
		slices.Reverse(list)
		if diff := cmp.Diff(text(), reversed); diff != "" {
			t.Errorf("the order matters:\n%s", diff)
		}
	})
}
