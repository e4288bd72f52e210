package wg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// Client reads devices, sets their marks and touches their peers. Its methods may be called at the
// same time.
type Client struct {
	ctrl   controller
	socket socket

	mu    sync.Mutex
	hangs map[string]bool // devices that a call has not come back from in time
}

// controller is what is used of *wgctrl.Client.
type controller interface {
	Device(name string) (*wgtypes.Device, error)
	ConfigureDevice(name string, cfg wgtypes.Config) error
	Close() error
}

// Open opens a client. A kernel without WireGuard is no error: then there are
// userspace devices at most.
func Open() (*Client, error) {
	ctrl, err := wgctrl.New()
	if err != nil {
		return nil, fmt.Errorf("open WireGuard's netlink: %w", err)
	}
	return &Client{ctrl: ctrl, socket: uapi, hangs: map[string]bool{}}, nil
}

// Close frees what the client holds.
func (c *Client) Close() error { return c.ctrl.Close() }

// Read is Inspect, for marks alone.
func (c *Client) Read(ctx context.Context, names []string) ([]Device, []error) {
	details, errs := c.Inspect(ctx, names)
	var devices []Device
	for _, d := range details {
		devices = append(devices, d.Device)
	}
	return devices, errs
}

// Inspect returns those of the named devices that are there, in the order of
// names. names must be links of this network namespace: /var/run/wireguard,
// where userspace devices have their sockets, is shared by all of them. Names
// that are no WireGuard device are left out, without an error, and so is one
// whose process is gone and left its socket. Each error is a *ReadError; where
// the caller may not ask it is an os.ErrPermission, which the kernel answers
// for every name, device or not.
//
// It asks for each name, and never for all devices: one stale socket makes
// wgctrl's Devices fail whole.
func (c *Client) Inspect(ctx context.Context, names []string) ([]Detail, []error) {
	found := make([]*Detail, len(names))
	failed := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Add(1)
		go func() {
			defer wg.Done()
			found[i], failed[i] = c.read(ctx, name)
		}()
	}
	wg.Wait()
	var details []Detail
	var errs []error
	for i := range names {
		if failed[i] != nil {
			errs = append(errs, failed[i])
		} else if found[i] != nil {
			details = append(details, *found[i])
		}
	}
	return details, errs
}

// read returns nil for a device that is not there.
func (c *Client) read(ctx context.Context, name string) (*Detail, error) {
	d, err := bounded(ctx, c, name, func() (Detail, error) {
		d, _, err := c.get(name)
		return d, err
	})
	switch {
	case absent(err):
		return nil, nil
	case err != nil:
		return nil, &ReadError{name, explained(err)}
	}
	return &d, nil
}

// Apply makes a change, and reads it back. A device that is not there is no
// error: there is nothing to pin.
func (c *Client) Apply(ctx context.Context, change Change) error {
	return errors.Join(c.ApplyAll(ctx, change.Device, []Change{change})...)
}

// ApplyAll makes changes of one device, one after the other, and then reads
// once what has become of them. A device or a peer that is not there is no
// error, and a peer that is not there stays away. Where the device does not
// answer, what is left is not tried.
func (c *Client) ApplyAll(ctx context.Context, device string, changes []Change) []error {
	var errs []error
	for _, change := range changes {
		_, err := bounded(ctx, c, device, func() (struct{}, error) { return struct{}{}, c.perform(change) })
		switch {
		case absent(err):
			return errs
		case err == nil:
			continue
		}
		errs = append(errs, fmt.Errorf("%s: %w", change, explained(err)))
		if errors.Is(err, errSilent) || errors.Is(err, errHangs) || ctx.Err() != nil {
			return errs
		}
	}
	if len(errs) > 0 || len(changes) == 0 {
		return errs
	}
	d, err := c.read(ctx, device)
	if err != nil {
		return []error{fmt.Errorf("%s: %w", changes[len(changes)-1], err)}
	}
	if d == nil {
		return nil
	}
	for _, change := range changes {
		if err := change.check(*d); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", change, err))
		}
	}
	return errs
}

// check returns an error where the device is not as the change should have left
// it. Of an endpoint it cannot be told: the peer may have roamed since.
func (c Change) check(d Detail) error {
	switch c.Kind {
	case SetMark:
		if d.Mark != c.Mark {
			return fmt.Errorf("the device has %#x after it was set", d.Mark)
		}
	case Kick:
		for _, p := range d.Peers {
			if p.Key == c.Peer && p.Keepalive != c.Keepalive {
				return fmt.Errorf("the peer has %d after it was set", p.Keepalive)
			}
		}
	}
	return nil
}

func (c *Client) perform(change Change) error {
	switch change.Kind {
	case RotatePort:
		return c.ctrl.ConfigureDevice(change.Device, wgtypes.Config{ListenPort: new(int)})
	case SetEndpoint:
		return c.ctrl.ConfigureDevice(change.Device, wgtypes.Config{Peers: []wgtypes.PeerConfig{{
			PublicKey: wgtypes.Key(change.Peer), UpdateOnly: true, Endpoint: net.UDPAddrFromAddrPort(change.Endpoint),
		}}})
	case Kick:
		return c.ctrl.ConfigureDevice(change.Device, kick(change))
	}
	return c.set(change.Device, change.Mark)
}

// kick turns a peer's keepalive off and on in one call: between two, a kill
// would leave it off. Both kinds of device go through the peers of a call in
// their order, and send a keepalive when it goes from 0 to more. A call holds
// one peer: wgctrl splits those of more than 32 peers, and then keeps only the
// first mention's fields.
func kick(change Change) wgtypes.Config {
	var off time.Duration
	on := time.Duration(change.Keepalive) * time.Second
	peer := wgtypes.PeerConfig{PublicKey: wgtypes.Key(change.Peer), UpdateOnly: true, PersistentKeepaliveInterval: &off}
	again := peer
	again.PersistentKeepaliveInterval = &on
	return wgtypes.Config{Peers: []wgtypes.PeerConfig{peer, again}}
}

// get returns the device, and whether its mark must be set by its socket
// because wgctrl cannot say that mark here.
//
// wgctrl keeps marks as int. Where that has 32 bits, marks of 2³¹ and more
// come negative from the kernel, which the conversion mends; from userspace
// devices they do not come at all.
func (c *Client) get(name string) (d Detail, user bool, err error) {
	w, err := c.ctrl.Device(name)
	if err != nil {
		if strconv.IntSize == 32 && errors.Is(err, strconv.ErrRange) {
			d, err = c.socket.get(name)
			return d, true, err
		}
		return Detail{}, false, err
	}
	return detail(w), w.Type == wgtypes.Userspace, nil
}

// detail takes over what is wanted of a device; keys but the peers' public ones
// are left behind.
func detail(w *wgtypes.Device) Detail {
	d := Detail{Device: Device{Name: w.Name, Mark: uint32(w.FirewallMark)}, Port: uint16(w.ListenPort)}
	for _, p := range w.Peers {
		peer := Peer{
			Key: Key(p.PublicKey), Keepalive: uint16(p.PersistentKeepaliveInterval / time.Second),
			Handshake: handshake(p.LastHandshakeTime), Received: p.ReceiveBytes, Sent: p.TransmitBytes,
		}
		if p.Endpoint != nil {
			e := p.Endpoint.AddrPort()
			peer.Endpoint = netip.AddrPortFrom(e.Addr().Unmap(), e.Port())
		}
		d.Peers = append(d.Peers, peer)
	}
	return d
}

// handshake returns the zero time for what kernel and socket call 1970.
func handshake(t time.Time) time.Time {
	if t.Unix() <= 0 {
		return time.Time{}
	}
	return t
}

func (c *Client) set(name string, mark uint32) error {
	value := int(mark)
	if value < 0 {
		// A 32-bit int. To the kernel it is the same 32 bits; a userspace
		// device would be told a negative number, and refuse it.
		_, user, err := c.get(name)
		if err != nil {
			return err
		}
		if user {
			return c.socket.set(name, mark)
		}
	}
	return c.ctrl.ConfigureDevice(name, wgtypes.Config{FirewallMark: &value})
}
