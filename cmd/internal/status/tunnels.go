package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/screen"
	"wg-multihome/wg"
)

// Tunnel is a WireGuard device, listed or there.
type Tunnel struct {
	Device  string `json:"device"`
	Uplink  string `json:"uplink,omitempty"` // empty: no uplink lists it
	Present bool   `json:"present"`
	Unread  bool   `json:"unread,omitempty"`      // it may be present, but could not be read
	Mark    string `json:"mark"`                  // what it has
	Wanted  string `json:"wanted,omitempty"`      // what it is to have
	Full    bool   `json:"full_tunnel,omitempty"` // it keeps a mark of its own
	Refused bool   `json:"refused,omitempty"`     // its uplink has no mark that can be read: what it sends is refused
	Peers   []Peer `json:"peers"`
}

// Peer is a peer of a device that is there.
type Peer struct {
	Key       string     `json:"key"` // the first characters of its public key
	Endpoint  string     `json:"endpoint,omitempty"`
	Handshake *time.Time `json:"last_handshake,omitempty"`     // absent: none yet
	Age       *int64     `json:"last_handshake_age,omitempty"` // in seconds; absent, too, where the clock was set back since
	Received  int64      `json:"received"`                     // bytes
	Sent      int64      `json:"sent"`
}

func tunnels(v decide.Decision) []Tunnel {
	list := []Tunnel{}
	listed := map[string]bool{}
	for _, p := range v.Pins {
		for _, name := range p.Devices {
			listed[name] = true
			t := Tunnel{Device: name, Uplink: cmp.Or(p.Uplink, v.Refused(p)), Refused: v.Refused(p) != "", Wanted: number(p.Mark.Value), Full: p.Full, Peers: []Peer{}, Unread: slices.Contains(v.Devices.Unread, name)}
			for _, d := range v.Devices.Found {
				if d.Name == name {
					t.Present, t.Mark = true, number(d.Mark)
				}
			}
			list = append(list, t)
		}
	}
	for _, d := range v.Devices.Found {
		if !listed[d.Name] {
			list = append(list, Tunnel{Device: d.Name, Present: true, Mark: number(d.Mark), Peers: []Peer{}})
		}
	}
	slices.SortStableFunc(list, func(a, b Tunnel) int { return strings.Compare(a.Device, b.Device) })
	return list
}

// addTunnels adds what was inspected of devices.
func (s *Status) addTunnels(in Inspection, now time.Time) {
	s.Notes = append(s.Notes, in.notes...)
	for _, d := range in.details {
		for i := range s.Tunnels {
			if t := &s.Tunnels[i]; t.Device == d.Name {
				for _, p := range d.Peers {
					t.Peers = append(t.Peers, peer(p, now))
				}
			}
		}
	}
}

func peer(p wg.Peer, now time.Time) Peer {
	row := Peer{Key: p.Key.String(), Received: p.Received, Sent: p.Sent}
	if p.Endpoint.IsValid() {
		row.Endpoint = p.Endpoint.String()
	}
	if !p.Handshake.IsZero() {
		at := p.Handshake.UTC()
		row.Handshake = &at
		if age := int64(now.Sub(at) / time.Second); age >= 0 {
			row.Age = &age
		}
	}
	return row
}

func (t *page) tunnels(list []Tunnel) {
	rows := screen.Table{Columns: []string{"TUNNEL", "UPLINK", "MARK", "WANTED"}}
	for _, d := range list {
		uplink, mark := d.Uplink, d.Mark
		switch {
		case d.Unread:
			mark = "(not read)"
		case !d.Present:
			mark = "(absent)"
		case d.Refused:
			mark += " (REFUSED: its uplink's mark cannot be read)"
		}
		if d.Wanted == "" {
			uplink = "(not listed)"
		}
		rows.Row(d.Device, uplink, mark, d.Wanted)
	}
	t.table(rows, len(list))
}

// peers writes those of all devices.
func (t *page) peers(list []Tunnel) {
	rows, n := screen.Table{Columns: []string{"PEER", "TUNNEL", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT"}}, 0
	for _, d := range list {
		for _, p := range d.Peers {
			rows.Row(p.Key, d.Device, p.Endpoint, p.age(), bytes(p.Received), bytes(p.Sent))
			n++
		}
	}
	t.table(rows, n)
}

func (p Peer) age() string {
	switch {
	case p.Handshake == nil:
		return "never"
	case p.Age == nil:
		return "in the future"
	}
	return (time.Duration(*p.Age) * time.Second).String() + " ago"
}

// bytes shows a number of bytes as wg(8) does.
func bytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	for ; value >= 1024 && unit < len(units)-1; unit++ {
		value /= 1024
	}
	return fmt.Sprintf("%.2f %s", value, units[unit])
}
