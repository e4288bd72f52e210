package watch

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Clock is what the loop goes by.
type Clock interface {
	Now() time.Time

	// Suspended is how long the machine has slept since it was started.
	Suspended() time.Duration

	// Used is what the process has used of a core so far.
	Used() time.Duration

	// Changed tells that the clock was set, or that the machine has woken up.
	Changed() <-chan struct{}
}

// SystemClock is the machine's. Close frees it.
type SystemClock struct {
	timer   *os.File
	changed chan struct{}
	wait    sync.WaitGroup
}

// OpenClock opens it.
//
// A timer that is to be cancelled when the clock is set is cancelled at the end of
// a suspend, too (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET): so nobody need wake
// up to look.
func OpenClock() (*SystemClock, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make a timer: %w", err)
	}
	c := &SystemClock{timer: os.NewFile(uintptr(fd), "timer"), changed: make(chan struct{}, 1)}
	if err := c.arm(); err != nil {
		_ = c.timer.Close() // nothing was written
		return nil, err
	}
	c.wait.Add(1)
	go c.read()
	return c, nil
}

// Close ends it.
func (c *SystemClock) Close() {
	_ = c.timer.Close() // nothing was written
	c.wait.Wait()
}

// farAway is when the timer would end by itself, in seconds since 1970: in the
// year 2037, and then it is armed again.
const farAway = 1<<31 - 1<<24

func (c *SystemClock) arm() error {
	raw, err := c.timer.SyscallConn()
	if err != nil {
		return err
	}
	const cancelOnSet = 1 << 1 // TFD_TIMER_CANCEL_ON_SET
	failed := raw.Control(func(fd uintptr) {
		end := unix.ItimerSpec{Value: unix.Timespec{Sec: farAway}}
		err = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|cancelOnSet, &end, nil)
	})
	if err = errors.Join(failed, err); err != nil {
		return fmt.Errorf("set the timer: %w", err)
	}
	return nil
}

func (c *SystemClock) read() {
	defer c.wait.Done()
	var ticks [8]byte
	for {
		_, err := c.timer.Read(ticks[:])
		if err != nil && !errors.Is(err, unix.ECANCELED) || c.arm() != nil {
			return // closed, or in the year 2037
		}
		select {
		case c.changed <- struct{}{}:
		default:
		}
	}
}

// Now is the time, with Go's monotonic one.
func (c *SystemClock) Now() time.Time { return time.Now() }

// Changed tells that the clock was set, or that the machine has woken up.
func (c *SystemClock) Changed() <-chan struct{} { return c.changed }

// Suspended is CLOCK_BOOTTIME less CLOCK_MONOTONIC, clock_gettime(2).
func (c *SystemClock) Suspended() time.Duration {
	var boot, monotonic unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &monotonic) != nil {
		return 0 // neither fails on a Linux of this millennium
	}
	return time.Duration(boot.Nano() - monotonic.Nano())
}

// Used is CLOCK_PROCESS_CPUTIME_ID: without what it has started.
func (c *SystemClock) Used() time.Duration {
	var used unix.Timespec
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &used) != nil {
		return 0 // likewise
	}
	return time.Duration(used.Nano())
}
