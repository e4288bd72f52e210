package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// ErrBusy says that another run held the lock for all of the time allowed.
var ErrBusy = errors.New("another run of wg-multihome holds the lock")

const (
	lockFile = "lock"
	tellFile = "tell.lock"

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
	until := time.Now().Add(wait)
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("wait for %s: %w", filepath.Join(string(d), lockFile), err)
		}
		unlock, ok, err := d.try(lockFile)
		if ok || err != nil {
			return unlock, err
		}
		left := time.Until(until)
		if left <= 0 {
			return nil, fmt.Errorf("%s: %w (waited %s)", filepath.Join(string(d), lockFile), ErrBusy, wait)
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

func (d Dir) try(file string) (unlock func(), ok bool, err error) {
	if err := d.makeDir(""); err != nil {
		return nil, false, fmt.Errorf("make state directory: %w", err)
	}
	path := filepath.Join(string(d), file)
	l := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDONLY), flock.SetPermissions(lockMode))
	ok, err = l.TryLock()
	if err != nil {
		// flock's own errors name no file where locking, not opening, failed.
		var pathErr *os.PathError
		if !errors.As(err, &pathErr) {
			err = fmt.Errorf("%s: %w", path, err)
		}
		return nil, false, fmt.Errorf("take lock: %w", err)
	}
	if !ok {
		return nil, false, nil
	}
	return func() { _ = l.Unlock() }, true, nil // fails for a bad descriptor only
}
