package wg

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"wg-multihome/fwmark"
)

// Detail is a device with its peers, as found.
type Detail struct {
	Device
	Port  uint16
	Peers []Peer
}

// Peer is a peer of a device, as found.
type Peer struct {
	Key       Key
	Endpoint  netip.AddrPort // invalid: none
	Keepalive uint16         // in seconds; 0: off
	Handshake time.Time      // the last one; zero: none yet
	Received  int64          // bytes
	Sent      int64
}

// StaleAfter is how old the last handshake of a peer may be; a peer whose last
// one is older counts as lost. A session that carries packets makes a new
// handshake after 120 s (REKEY_AFTER_TIME). Where nothing is to be sent, that
// waits for the next keepalive, 10 s at most (KEEPALIVE_TIMEOUT), and one try
// takes 5 s (REKEY_TIMEOUT): WireGuard's paper, section 6.1.
const StaleAfter = 135 * time.Second

// Refresh is one refresh of one device: what it is decided by.
type Refresh struct {
	Device     Detail
	Mark       uint32 // that of its pin
	File       File
	RotatePort bool    // its listen port is to change
	Families   [2]bool // by fwmark.Family: those in which the uplink has an address and a table

	// InTunnel are those of AddressesToRoute whose packets, with the device's
	// mark, leave by a WireGuard device.
	InTunnel map[netip.Addr]bool

	OlderThan time.Duration // 0: every peer, else those whose last handshake is older
	Now       time.Time
}

// peers returns those that are to be refreshed. A handshake in the future says
// that the clock was set back since, and its age is not known: it may be old.
func (r Refresh) peers() []Peer {
	var due []Peer
	for _, p := range r.Device.Peers {
		if age := r.Now.Sub(p.Handshake); r.OlderThan == 0 || age > r.OlderThan || age < 0 {
			due = append(due, p)
		}
	}
	return due
}

// AtOnce returns what a device gets at once, without waiting for a name:
//
//  1. its mark again, even unchanged: the kernel then forgets every peer's
//     cached source and route;
//  2. another listen port, where that is configured;
//  3. the file's endpoint, for one that has roamed into a tunnel;
//  4. a kick for each peer that has a persistent keepalive: one leaves at once,
//     and the far side learns the new address.
//
// What concerns the device as a whole is left out where only some of its peers
// are to be refreshed. A device that does not carry its pin's mark gets
// nothing: what it sends does not leave by that uplink.
func (r Refresh) AtOnce() []Change {
	due := r.peers()
	if r.Device.Mark != r.Mark || len(due) == 0 && r.OlderThan > 0 {
		return nil
	}
	var changes []Change
	if len(due) == len(r.Device.Peers) {
		changes = append(changes, Change{Device: r.Device.Name, Mark: r.Mark})
		if r.RotatePort {
			changes = append(changes, Change{Device: r.Device.Name, Kind: RotatePort})
		}
	}
	for _, p := range due {
		if e, roamed := r.roamed(p); roamed {
			changes = append(changes, Change{Device: r.Device.Name, Kind: SetEndpoint, Peer: p.Key, Endpoint: netip.AddrPortFrom(e.Addr, e.Port)})
		}
	}
	for _, p := range due {
		changes = append(changes, r.kick(p)...)
	}
	return changes
}

func (r Refresh) kick(p Peer) []Change {
	if p.Keepalive == 0 {
		return nil
	}
	return []Change{{Device: r.Device.Name, Kind: Kick, Peer: p.Key, Keepalive: p.Keepalive}}
}

// AddressesToRoute returns the addresses whose routes decide about endpoints, for
// InTunnel: of each literal endpoint that has roamed, the file's and the present
// one. It is sorted.
func (r Refresh) AddressesToRoute() []netip.Addr {
	var addrs []netip.Addr
	for _, p := range r.peers() {
		if e := r.File.Peers[p.Key]; e.Addr.IsValid() && p.Endpoint.IsValid() && p.Endpoint.Addr() != e.Addr {
			addrs = append(addrs, p.Endpoint.Addr(), e.Addr)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// roamed reports whether a peer's literal endpoint has roamed into a tunnel,
// and is to be set back to the file's: seen when a full tunnel was reloaded,
// and with servers that answer from their address inside the tunnel. Any other
// literal endpoint is nobody's business but WireGuard's.
func (r Refresh) roamed(p Peer) (Endpoint, bool) {
	e := r.File.Peers[p.Key]
	is := e.Addr.IsValid() && p.Endpoint.IsValid() && p.Endpoint.Addr() != e.Addr &&
		r.InTunnel[p.Endpoint.Addr()] && !r.InTunnel[e.Addr]
	return e, is
}

// Names returns the host names to look up, sorted: those of peers that the
// device has, and none where the uplink has no family to reach them by.
func (r Refresh) Names() []string {
	if r.Device.Mark != r.Mark || !r.Families[fwmark.IPv4] && !r.Families[fwmark.IPv6] {
		return nil
	}
	var names []string
	for _, p := range r.peers() {
		if host := r.File.Peers[p.Key].Host; host != "" {
			names = append(names, host)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Answer is what a look-up of a name brought.
type Answer struct {
	Name  string
	Addrs []netip.Addr // in the order of preference
	Errs  [2]error     // by fwmark.Family: why it has not been answered; nil for one without addresses
}

// AfterLookUp returns what the device gets once names were looked up: for a peer
// whose name has other addresses now, a new endpoint and another kick.
//
// An endpoint stays as it is, with its port, when its address is one of the
// name's in a family that the uplink has, and when the look-up in that family
// failed. A new one is of the old one's family where the name has an address in
// it. The errors name the peers whose endpoint stays because their name could
// not be resolved.
func (r Refresh) AfterLookUp(answers map[string]Answer) (changes []Change, errs []error) {
	if r.Device.Mark != r.Mark {
		return nil, nil
	}
	for _, p := range r.peers() {
		e := r.File.Peers[p.Key]
		answer, asked := answers[e.Host]
		if e.Host == "" || !asked {
			continue
		}
		addrs, err := r.usable(answer)
		if slices.Contains(addrs, p.Endpoint.Addr()) {
			continue
		}
		if is := p.Endpoint.Addr(); is.IsValid() && answer.Errs[fwmark.FamilyOf(is)] != nil {
			err = unresolved(answer.Errs[fwmark.FamilyOf(is)])
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("endpoint of %s peer %s stays as it is: %s: line %d: %q %w", r.Device.Name, p.Key, r.File.Path, e.Line, e.Host, err))
		} else {
			changes = append(changes, Change{Device: r.Device.Name, Kind: SetEndpoint, Peer: p.Key, Endpoint: netip.AddrPortFrom(preferred(addrs, p.Endpoint.Addr()), e.Port)})
			changes = append(changes, r.kick(p)...)
		}
	}
	return changes, errs
}

// preferred returns the first address of the family that an endpoint had, which
// is known to work, or else the first one.
func preferred(addrs []netip.Addr, now netip.Addr) netip.Addr {
	for _, a := range addrs {
		if now.IsValid() && fwmark.FamilyOf(a) == fwmark.FamilyOf(now) {
			return a
		}
	}
	return addrs[0]
}

// usable returns the addresses that an endpoint can have, at least one.
func (r Refresh) usable(a Answer) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, addr := range a.Addrs {
		addr = addr.Unmap()
		if addr.IsValid() && !addr.IsUnspecified() && !addr.IsLoopback() && !addr.IsMulticast() && !addr.IsLinkLocalUnicast() && r.Families[fwmark.FamilyOf(addr)] {
			addrs = append(addrs, addr)
		}
	}
	failed := cmp.Or(a.Errs[fwmark.IPv6], a.Errs[fwmark.IPv4])
	switch {
	case len(addrs) > 0:
		return addrs, nil
	case failed != nil:
		return nil, unresolved(failed)
	case len(a.Addrs) > 0:
		return nil, fmt.Errorf("resolves to %s, which is no endpoint by this uplink", a.Addrs[0])
	}
	return nil, errors.New("resolves to nothing")
}

func unresolved(err error) error { return fmt.Errorf("was not resolved: %w", err) }
