package watch

import (
	"slices"
	"testing"
	"time"

	"wg-multihome/wg"
)

// TestHandshakes: a tunnel that is silent is refreshed, each time later, and the
// names of its endpoints are looked up every five minutes at most.
func TestHandshakes(t *testing.T) {
	device := func(age time.Duration, now time.Time, keepalive uint16, sent int64) []wg.Detail {
		p := wg.Peer{Keepalive: keepalive, Sent: sent}
		if age >= 0 {
			p.Handshake = now.Add(-age)
		}
		return []wg.Detail{{Device: wg.Device{Name: "wg0"}, Peers: []wg.Peer{p}}}
	}
	const never = -time.Second
	run := func(age func(second int) time.Duration, keepalive uint16, sends bool) (at []int, names []int) {
		var h Handshakes
		for second := range 1500 {
			now, sent := ms(1000*second), int64(0)
			if sends {
				sent = int64(second)
			}
			for _, r := range h.Due(now, device(age(second), now, keepalive, sent)) {
				at = append(at, second)
				if r.Names {
					names = append(names, second)
				}
			}
		}
		return at, names
	}
	aged := func(second int) time.Duration { return time.Duration(second) * time.Second }
	silent := []int{136, 166, 226, 346, 586, 1066}
	at, names := run(aged, 25, false)
	if !slices.Equal(at, silent) || !slices.Equal(names, []int{136, 586, 1066}) {
		t.Errorf("refreshed after %v s, with names after %v s", at, names)
	}
	if at, _ := run(aged, 0, true); !slices.Equal(at, silent) {
		t.Errorf("one that has traffic: after %v s", at)
	}
	if at, _ := run(aged, 0, false); len(at) > 0 {
		t.Errorf("one that nobody uses: after %v s", at)
	}
	if at, _ := run(func(int) time.Duration { return never }, 25, false); len(at) == 0 || at[0] != 0 {
		t.Errorf("one that never had a handshake: after %v s", at)
	}
	if at, _ := run(func(second int) time.Duration { return aged(second % 120) }, 25, false); len(at) > 0 {
		t.Errorf("one that is well: after %v s", at)
	}
	recovers := func(second int) time.Duration {
		if second >= 200 && second < 900 {
			return aged(second % 120)
		}
		return 200 * time.Second
	}
	if at, _ := run(recovers, 25, false); !slices.Equal(at, []int{0, 30, 90, 900, 930, 990, 1110, 1350}) {
		t.Errorf("one that recovers and is silent again: after %v s", at)
	}
}
