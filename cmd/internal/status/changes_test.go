package status

import (
	"slices"
	"testing"
	"time"
)

// TestChanges: what came, went and is otherwise, without counters, ages and bytes.
func TestChanges(t *testing.T) {
	then, age := time.Unix(1000, 0), int64(5)
	before := Status{
		Try:     "undone at 12:00:00, in 1m0s, unless `wg-multihome confirm` comes first",
		Uplinks: []Uplink{{Name: "wan1", Family: 4, State: "up", Address: "192.0.2.2"}, {Name: "wan2", Family: 4, State: "up"}},
		Marks:   []Mark{{Mark: "0x2005", Uplink: "wan1", Guarded: true}},
		Tunnels: []Tunnel{{Device: "wg0", Mark: "0x2005", Peers: []Peer{{Key: "k", Handshake: &then, Age: &age, Received: 1, Sent: 2}}}},
		Locks:   []Lock{{Mark: "0x2005", Dropped: 1}},
		Notes:   []string{"wg0: no handshake for 136s"},
		Drift:   []string{"+ rule 4 32754 fwmark 0x2005 unreachable"},
	}
	same := before
	same.Try = "undone at 12:00:00, in 59s, unless `wg-multihome confirm` comes first"
	later, older := then.Add(time.Second), int64(9)
	same.Tunnels = []Tunnel{{Device: "wg0", Mark: "0x2005", Peers: []Peer{{Key: "k", Handshake: &later, Age: &older, Received: 9, Sent: 9}}}}
	same.Locks, same.Notes, same.OtherMarks = []Lock{{Mark: "0x2005", Dropped: 7}}, []string{"wg0: no handshake for 2m16s"}, 5
	if got := Changes(before, same); len(got) != 0 {
		t.Errorf("counters and ages are changes: %v", got)
	}
	after := same
	after.Uplinks = []Uplink{{Name: "wan1", Family: 4, State: "down"}, {Name: "wan3", Family: 6, State: "up"}}
	after.Marks = []Mark{{Mark: "0x2005", Uplink: "wan1"}}
	after.Drift = nil
	after.Try = "undone at 12:05:00, in 5m0s, unless `wg-multihome confirm` comes first"
	var got []string
	for _, c := range Changes(before, after) {
		got = append(got, c.String())
	}
	want := []string{
		"- drift: + rule 4 32754 fwmark 0x2005 unreachable",
		"= marks: 0x2005 wan1: guarded true -> false",
		"- try: undone at 12:00:00, in 1m0s, unless `wg-multihome confirm` comes first",
		"+ try: undone at 12:05:00, in 5m0s, unless `wg-multihome confirm` comes first",
		"= uplinks: wan1 IPv4: address 192.0.2.2 -> none, state up -> down",
		"- uplinks: wan2 IPv4",
		"+ uplinks: wan3 IPv6: leased false, state up",
	}
	if !slices.Equal(got, want) {
		t.Errorf("changes\n%q\nwant\n%q", got, want)
	}
}
