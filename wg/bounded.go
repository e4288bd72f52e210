package wg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"
)

// callTime bounds one call for one device. wgctrl has no time-out of its own,
// and a userspace device that hangs would keep a DHCP client waiting for ever.
const callTime = 2 * time.Second

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
