package status

import (
	"fmt"
	"strings"
)

// Answer is the status in one line: that all is well, or what is wrong, the most
// urgent first, and what to type.
func (s Status) Answer() string {
	switch {
	case s.unguarded() > 0:
		return fmt.Sprintf("WRONG: %s without guards; type `wg-multihome sync`", count(s.unguarded(), "mark"))
	case len(s.Astray) > 0:
		return fmt.Sprintf("WRONG: %s led elsewhere, see the end; `wg-multihome explain` tells why", count(len(s.Astray), "packet", "packets"))
	case s.unpinned() > 0:
		return fmt.Sprintf("WRONG: %s not pinned; type `wg-multihome sync`", count(s.unpinned(), "service"))
	case len(s.Problems) > 0:
		return fmt.Sprintf("WRONG: %s in the configuration, below: mend it, then `wg-multihome sync`", count(len(s.Problems), "error"))
	case len(s.Errors) > 0:
		return fmt.Sprintf("WRONG: %s, see below", count(len(s.Errors), "error"))
	case len(s.Drift) > 0:
		return fmt.Sprintf("WRONG: %s would be taken by sync, see the end; type `wg-multihome sync`", count(len(s.Drift), "step"))
	}
	uplinks := map[string]bool{}
	for _, u := range s.Uplinks {
		uplinks[u.Name] = true
	}
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{len(uplinks), "uplink"}, {len(s.Marks), "mark"}, {s.pinnedTunnels(), "tunnel"}, {len(s.Services), "service"}} {
		if p.n > 0 {
			parts = append(parts, count(p.n, p.what))
		}
	}
	return "ok: " + strings.Join(append(parts, "nothing drifts"), ", ")
}

// count is a number with its noun; the plural adds an s where there is none of its
// own.
func count(n int, words ...string) string {
	switch {
	case n == 1:
		return "1 " + words[0]
	case len(words) > 1:
		return fmt.Sprintf("%d %s", n, words[1])
	}
	return fmt.Sprintf("%d %ss", n, words[0])
}

func (s Status) unguarded() (n int) {
	for _, m := range s.Marks {
		if !m.Guarded {
			n++
		}
	}
	return n
}

func (s Status) unpinned() (n int) {
	for _, c := range s.Services {
		if c.Exists && !c.Pinned {
			n++
		}
	}
	return n
}

// pinnedTunnels are the devices that are listed; status shows others, too.
func (s Status) pinnedTunnels() (n int) {
	for _, t := range s.Tunnels {
		if t.Wanted != "" {
			n++
		}
	}
	return n
}
