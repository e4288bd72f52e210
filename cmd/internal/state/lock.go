package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/regular"
)

// ErrBusy says that another run held the lock for all of the time allowed.
var ErrBusy = errors.New("another run of wg-multihome holds the lock")

const (
	lockFile  = "lock"
	tellFile  = "tell.lock"
	watchFile = "watch.lock"

	// pollEvery is how often a held lock is tried. flock(2) can wait by
	// itself, but then no time limit ends it.
	pollEvery = 10 * time.Millisecond

	// lockMode keeps others out: whoever can open a file can lock it, and so
	// keep every run of ours waiting.
	lockMode = 0o600
)

// Lock takes STATE-DIR/lock, waiting for another holder up to wait; 0 tries
// once. The error is ErrBusy when that time is over, ctx's own when ctx ends
// first, and otherwise says why the file cannot be made or locked. The kernel
// frees the lock of a holder that dies, and programs that a holder starts do
// not inherit it.
func (d Dir) Lock(ctx context.Context, wait time.Duration) (unlock func(), err error) {
	return d.LockFile(ctx, lockFile, wait)
}

// LockFile takes another lock in that folder, likewise.
func (d Dir) LockFile(ctx context.Context, file string, wait time.Duration) (unlock func(), err error) {
	until := time.Now().Add(wait)
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("wait for %s: %w", filepath.Join(string(d), file), err)
		}
		unlock, ok, err := d.try(file)
		if ok || err != nil {
			return unlock, err
		}
		left := time.Until(until)
		if left <= 0 {
			return nil, fmt.Errorf("%s: %w (waited %s; `ps -C wg-multihome -o pid,etime,args` shows it)", filepath.Join(string(d), file), ErrBusy, wait)
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(left, pollEvery)):
		}
	}
}

// TryTell takes STATE-DIR/tell.lock if nobody holds it; ok is false, without
// an error, where somebody does.
func (d Dir) TryTell() (unlock func(), ok bool, err error) { return d.try(tellFile) }

// LockWatch takes STATE-DIR/watch.lock: one watch runs at a time. It waits for a second, as
// two others hold it for less: Watched, and a process that a killed watch had forked and
// not begun.
func (d Dir) LockWatch(ctx context.Context) (unlock func(), err error) {
	return d.LockFile(ctx, watchFile, time.Second)
}

// Watched reports whether a watch runs. Where the lock cannot be opened, none is
// known of.
func (d Dir) Watched() bool {
	f, err := regular.Open(filepath.Join(string(d), watchFile), os.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

func (d Dir) try(file string) (unlock func(), ok bool, err error) { return d.take(file, openLock) }

// openLock opens a lock's file.
func openLock(path string) (*os.File, error) {
	return regular.Open(path, os.O_RDONLY|os.O_CREATE, lockMode)
}

// takes bounds how often a lock's file is opened that others replace each time.
const takes = 10

// take takes a lock if nobody holds it. A file that was removed or replaced after
// it was opened is not what the next run locks; then the one in its place is
// taken. Whoever removes the file of a lock that is held lets two run at once:
// against that there is no help here.
func (d Dir) take(file string, open func(path string) (*os.File, error)) (unlock func(), ok bool, err error) {
	path := filepath.Join(string(d), file)
	for range takes {
		if err := d.makeDir(""); err != nil {
			return nil, false, fmt.Errorf("make state directory: %w", err)
		}
		f, err := open(path)
		if err != nil {
			return nil, false, fmt.Errorf("take lock: %w", err)
		}
		if err = flock(f); err == nil {
			ok, err = inPlace(f, path)
		}
		if ok {
			return func() {
				// Closing alone would leave it to a child that was forked and has not
				// executed its program yet. Neither fails for an open file.
				_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
				_ = f.Close()
			}, true, nil
		}
		_ = f.Close() // nothing was written
		switch {
		case errors.Is(err, unix.EWOULDBLOCK):
			return nil, false, nil
		case err != nil:
			return nil, false, fmt.Errorf("take lock: %s: %w", path, err)
		}
	}
	return nil, false, fmt.Errorf("take lock: %s was replaced by others %d times", path, takes)
}

// inPlace reports whether a file is what its path leads to.
func inPlace(f *os.File, path string) (bool, error) {
	ours, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(ours, there), err
}

// flock takes the lock of a file, or fails with EWOULDBLOCK where another open
// file has it.
func flock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EINTR {
			return err
		}
	}
}
