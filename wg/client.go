package wg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// callTime bounds one call for one device. wgctrl has no time-out of its own,
// and a userspace device that hangs would keep a DHCP client waiting for ever.
const callTime = 2 * time.Second

// Client reads and sets the marks of devices. Its methods may be called at the
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

// Read returns those of the named devices that are there, in the order of
// names. names must be links of this network namespace: /var/run/wireguard,
// where userspace devices have their sockets, is shared by all of them. Names
// that are no WireGuard device are left out, without an error, and so is one
// whose process is gone and left its socket. Each error names its device; where
// the caller may not ask it is an os.ErrPermission, which the kernel answers
// for every name, device or not.
//
// It asks for each name, and never for all devices: one stale socket makes
// wgctrl's Devices fail whole.
func (c *Client) Read(ctx context.Context, names []string) ([]Device, []error) {
	found := make([]*Device, len(names))
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
	var devices []Device
	var errs []error
	for i := range names {
		if failed[i] != nil {
			errs = append(errs, failed[i])
		} else if found[i] != nil {
			devices = append(devices, *found[i])
		}
	}
	return devices, errs
}

// read returns nil for a device that is not there.
func (c *Client) read(ctx context.Context, name string) (*Device, error) {
	mark, err := bounded(ctx, c, name, func() (uint32, error) {
		mark, _, err := c.get(name)
		return mark, err
	})
	switch {
	case absent(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read WireGuard device %q: %w", name, explained(err))
	}
	return &Device{Name: name, Mark: mark}, nil
}

// Apply makes the change, and reads it back. A device that is not there is no
// error: there is nothing to pin.
func (c *Client) Apply(ctx context.Context, change Change) error {
	_, err := bounded(ctx, c, change.Device, func() (struct{}, error) {
		return struct{}{}, c.set(change.Device, change.Mark)
	})
	if absent(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", change, explained(err))
	}
	d, err := c.read(ctx, change.Device)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", change, err)
	case d != nil && d.Mark != change.Mark:
		return fmt.Errorf("%s: the device has %#x after it was set", change, d.Mark)
	}
	return nil
}

// get returns the device's mark, and whether it must be set by its socket
// because wgctrl cannot say that mark here.
//
// wgctrl keeps marks as int. Where that has 32 bits, marks of 2³¹ and more
// come negative from the kernel, which the conversion mends; from userspace
// devices they do not come at all.
func (c *Client) get(name string) (mark uint32, user bool, err error) {
	d, err := c.ctrl.Device(name)
	if err != nil {
		if strconv.IntSize == 32 && errors.Is(err, strconv.ErrRange) {
			mark, err = c.socket.get(name)
			return mark, true, err
		}
		return 0, false, err
	}
	return uint32(d.FirewallMark), d.Type == wgtypes.Userspace, nil
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

var (
	errSilent = fmt.Errorf("no answer within %s", callTime)

	// errHangs says that an earlier call has not come back, so no other is
	// begun: a process that stays would gather a goroutine and a socket for each.
	errHangs = errors.New("no answer since an earlier call")
)

// bounded runs f, but comes back after callTime, or when ctx ends.
func bounded[T any](ctx context.Context, c *Client, name string, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	c.mu.Lock()
	hangs := c.hangs[name]
	c.mu.Unlock()
	if hangs {
		return none, errHangs
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.hangs, name)
		done <- result{value, err}
	}()
	timer := time.NewTimer(callTime)
	defer timer.Stop()
	var late error
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		late = ctx.Err()
	case <-timer.C:
		late = errSilent
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case r := <-done: // it came back just now
		return r.value, r.err
	default:
		c.hangs[name] = true
		return none, late
	}
}

// absent reports whether an error says that there is no such device. A refused
// connection is the socket of a wireguard-go that was killed; ENODEV is a
// device that went while it was asked.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENODEV)
}
