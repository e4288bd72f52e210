package watch

import (
	"slices"
	"time"

	"wg-multihome/wg"
)

// Tunnels are refreshed while they are silent: their far side may have lost a NAT's
// mapping, or moved.
const (
	refreshMin = 30 * time.Second
	refreshMax = 10 * time.Minute
	namesEvery = 5 * time.Minute
)

// Handshakes remembers how tunnels are. The zero value knows of none.
type Handshakes struct {
	devices map[string]*silence
}

type silence struct {
	backoff time.Duration // since the last refresh; 0: there was none
	next    time.Time
	names   time.Time // when they are looked up again
	sent    map[wg.Key]int64
}

// Due returns what is to be refreshed now, by what devices say.
func (h *Handshakes) Due(now time.Time, devices []wg.Detail) []Refresh {
	if h.devices == nil {
		h.devices = map[string]*silence{}
	}
	for name := range h.devices {
		if !slices.ContainsFunc(devices, func(d wg.Detail) bool { return d.Name == name }) {
			delete(h.devices, name)
		}
	}
	var with, without Refresh
	with.Names = true
	for _, d := range devices {
		s := h.devices[d.Name]
		if s == nil {
			s = &silence{sent: map[wg.Key]int64{}}
			h.devices[d.Name] = s
		}
		due, names := s.due(now, d)
		switch {
		case due && names:
			with.Devices = append(with.Devices, d.Name)
		case due:
			without.Devices = append(without.Devices, d.Name)
		}
	}
	var list []Refresh
	for _, r := range []Refresh{with, without} {
		if len(r.Devices) > 0 {
			list = append(list, r)
		}
	}
	return list
}

// due reports whether a device is to be refreshed, and with its names.
func (s *silence) due(now time.Time, d wg.Detail) (due, names bool) {
	silent := false
	sent := map[wg.Key]int64{}
	for _, p := range d.Peers {
		before, known := s.sent[p.Key]
		sent[p.Key] = p.Sent
		wants := p.Keepalive != 0 || known && p.Sent != before
		age := now.Sub(p.Handshake)
		silent = silent || wants && (p.Handshake.IsZero() || age > wg.StaleAfter || age < 0) // set back, the clock does not tell
	}
	s.sent = sent
	switch {
	case !silent && s.backoff == 0, silent && now.Before(s.next):
		return false, false
	case !silent:
		if !now.Before(s.next) { // a peer without keepalive may be silent for want of traffic
			s.backoff, s.names = 0, time.Time{}
		}
		return false, false
	}
	s.backoff = min(max(2*s.backoff, refreshMin), refreshMax)
	s.next = now.Add(s.backoff)
	if names = !now.Before(s.names); names {
		s.names = now.Add(namesEvery)
	}
	return true, names
}
