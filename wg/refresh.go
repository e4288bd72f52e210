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

// Stale is from which age of its last handshake on a peer counts as lost: a
// session that carries anything makes a new one after 120 s, within 15 s more
// at most (REKEY_AFTER_TIME, KEEPALIVE_TIMEOUT and REKEY_TIMEOUT of WireGuard's
// paper, section 6.1).
const Stale = 135 * time.Second

// Case is what a refresh is decided by.
type Case struct {
	Device Detail
	Mark   uint32 // that of its pin
	File   File
	Rotate bool    // its listen port is to change
	Ways   [2]bool // by fwmark.Family: the uplink has an address and a table

	// Inside are the addresses to which packets with the device's mark leave
	// by a WireGuard device; asked for those of Routes.
	Inside map[netip.Addr]bool

	OlderThan time.Duration // 0: every peer, else those whose last handshake is older
	Now       time.Time
}

// peers returns those that are to be refreshed. A handshake in the future says
// that the clock was set back since, and its age is not known: it may be old.
func (c Case) peers() []Peer {
	var due []Peer
	for _, p := range c.Device.Peers {
		if age := c.Now.Sub(p.Handshake); c.OlderThan == 0 || age > c.OlderThan || age < 0 {
			due = append(due, p)
		}
	}
	return due
}

// Refresh returns what a device gets at once, without waiting for a name:
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
func (c Case) Refresh() []Change {
	due := c.peers()
	if c.Device.Mark != c.Mark || len(due) == 0 && c.OlderThan > 0 {
		return nil
	}
	var changes []Change
	if len(due) == len(c.Device.Peers) {
		changes = append(changes, Change{Device: c.Device.Name, Mark: c.Mark})
		if c.Rotate {
			changes = append(changes, Change{Device: c.Device.Name, Kind: RotatePort})
		}
	}
	for _, p := range due {
		if e, roamed := c.roamed(p); roamed {
			changes = append(changes, Change{Device: c.Device.Name, Kind: SetEndpoint, Peer: p.Key, Endpoint: netip.AddrPortFrom(e.Addr, e.Port)})
		}
	}
	for _, p := range due {
		changes = append(changes, c.kick(p)...)
	}
	return changes
}

func (c Case) kick(p Peer) []Change {
	if p.Keepalive == 0 {
		return nil
	}
	return []Change{{Device: c.Device.Name, Kind: Kick, Peer: p.Key, Keepalive: p.Keepalive}}
}

// Routes returns the addresses that Inside is to tell of: where literal
// endpoints have roamed to, and where they were. It is sorted.
func (c Case) Routes() []netip.Addr {
	var addrs []netip.Addr
	for _, p := range c.peers() {
		if e := c.File.Peers[p.Key]; e.Addr.IsValid() && p.Endpoint.IsValid() && p.Endpoint.Addr() != e.Addr {
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
func (c Case) roamed(p Peer) (Endpoint, bool) {
	e := c.File.Peers[p.Key]
	is := e.Addr.IsValid() && p.Endpoint.IsValid() && p.Endpoint.Addr() != e.Addr &&
		c.Inside[p.Endpoint.Addr()] && !c.Inside[e.Addr]
	return e, is
}

// Names returns the host names to look up, sorted: those of peers that the
// device has, and none where the uplink has no family to reach them by.
func (c Case) Names() []string {
	if c.Device.Mark != c.Mark || !c.Ways[fwmark.IPv4] && !c.Ways[fwmark.IPv6] {
		return nil
	}
	var names []string
	for _, p := range c.peers() {
		if host := c.File.Peers[p.Key].Host; host != "" {
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

// Moved returns what the device gets once names were looked up: the endpoint
// of a peer whose name has moved, and another kick. An endpoint is left alone,
// port included, when its address is any of the name's in a family that the
// uplink has, and while that family's addresses could not be told; else it stays
// in its family, if the name is there, too. The errors name peers whose endpoint
// was kept because their name led nowhere.
func (c Case) Moved(answers map[string]Answer) (changes []Change, errs []error) {
	if c.Device.Mark != c.Mark {
		return nil, nil
	}
	for _, p := range c.peers() {
		e := c.File.Peers[p.Key]
		answer, asked := answers[e.Host]
		if e.Host == "" || !asked {
			continue
		}
		addrs, err := c.usable(answer)
		if slices.Contains(addrs, p.Endpoint.Addr()) {
			continue
		}
		if is := p.Endpoint.Addr(); is.IsValid() && answer.Errs[fwmark.FamilyOf(is)] != nil {
			err = unresolved(answer.Errs[fwmark.FamilyOf(is)])
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("endpoint of %s peer %s stays as it is: %s: line %d: %q %w", c.Device.Name, p.Key, c.File.Path, e.Line, e.Host, err))
		} else {
			changes = append(changes, Change{Device: c.Device.Name, Kind: SetEndpoint, Peer: p.Key, Endpoint: netip.AddrPortFrom(preferred(addrs, p.Endpoint.Addr()), e.Port)})
			changes = append(changes, c.kick(p)...)
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
func (c Case) usable(a Answer) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, addr := range a.Addrs {
		addr = addr.Unmap()
		if addr.IsValid() && !addr.IsUnspecified() && !addr.IsLoopback() && !addr.IsMulticast() && !addr.IsLinkLocalUnicast() && c.Ways[fwmark.FamilyOf(addr)] {
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
