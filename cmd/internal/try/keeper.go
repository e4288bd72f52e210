package try

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark/config"
	"wg-multihome/fwmark/regular"
)

// Where things are, and how large they may get, in bytes.
const (
	tryFile     = state.TryFile
	inForceFile = state.InForceFile
	maxFile     = 16 << 20

	lockWait = 30 * time.Second
)

// ErrNone says that there is nothing to confirm or to undo.
var ErrNone = errors.New("no try is pending: `wg-multihome sync --try 60s` begins one")

// ErrOver says that it is too late.
var ErrOver = errors.New("no try is pending any more: the last one was undone; change the configuration, and try it again")

// Keeper keeps the state of tries.
type Keeper struct {
	Dir   state.Dir // that outlives a reboot
	State state.Dir // STATE-DIR
}

// File is the path of the state.
func (k Keeper) File() string { return filepath.Join(string(k.Dir), tryFile) }

// Read returns the state; nil: there is none.
func (k Keeper) Read() (*State, error) { return readFile[State](k.Dir, tryFile) }

// noted is the content of in-force.json.
type noted struct {
	config.Config
	Texts []string // the files with a text of which something may stand; nil: noted by an earlier version
}

// Before returns what was in force when a run has converged last; nil: that was not
// noted since the machine was booted.
func (k Keeper) Before() (*config.Config, error) {
	return readFile[config.Config](k.State, inForceFile)
}

// Texts returns the files with a text that what was in force was read from, and those that
// runs since then have met; nil: that was not noted since the machine was booted.
func (k Keeper) Texts() ([]string, error) {
	v, err := readFile[noted](k.State, inForceFile)
	if v == nil {
		return nil, err
	}
	return v.Texts, nil
}

// Note notes a configuration that is in force, or that none is.
func (k Keeper) Note(c config.Config) error {
	if c.Withdrawn {
		return k.Nothing()
	}
	c.Problems, c.Notes = nil, nil
	return k.write(noted{c, append([]string{}, c.Texts()...)})
}

// Meet notes the files with a text of a configuration that has an error, or beside which
// something stands that it does not have: whatever stands may come from them, too. What
// is in force stays what it was.
func (k Keeper) Meet(c config.Config) error {
	v, err := readFile[noted](k.State, inForceFile)
	if err != nil || v == nil || v.Texts == nil {
		return err
	}
	for _, file := range c.Texts() {
		if !slices.Contains(v.Texts, file) {
			v.Texts = append(v.Texts, file)
		}
	}
	return k.write(*v)
}

// write writes in-force.json, where that would change it.
func (k Keeper) write(v noted) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if old, err := regular.Read(filepath.Join(string(k.State), inForceFile), maxFile); err == nil && string(old) == string(text)+"\n" {
		return nil
	}
	return k.State.Write(inForceFile, text)
}

// Nothing notes that nothing of ours is in force.
func (k Keeper) Nothing() error {
	if err := os.Remove(filepath.Join(string(k.State), inForceFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Begin begins a try, or sets the time of the pending one anew. stands says that
// something of ours stands already.
func (k Keeper) Begin(ctx context.Context, read config.Config, files config.Files, stands bool, limit time.Duration) (next State, err error) {
	err = k.change(ctx, func(old *State) (*State, error) {
		now, err := Clock()
		if err != nil {
			return nil, err
		}
		before, err := k.Before()
		if err != nil {
			return nil, err
		}
		if before == nil && old != nil && old.Over(now) {
			before = old.Before // no run has noted anything since: it is in force
		}
		if before == nil && stands && (old == nil || old.Over(now)) {
			return nil, errors.New("no run since boot has noted what is in force, so it could not be brought back: type `wg-multihome sync` with the configuration as it was, then try the new one")
		}
		next = Next(old, now, newID(), limit, time.Now().Add(limit), read, before)
		next.Named = files.TOMLNamed
		next.File, err = filepath.Abs(files.TOML) // whoever reverts may be in another folder
		if err != nil {
			return nil, err
		}
		return &next, nil
	})
	return next, err
}

// newID tells tries from each other.
func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails, crypto/rand
	return hex.EncodeToString(b[:])
}

// Cancel takes a try back whose undoing could not be prepared: nothing of it was
// converged.
func (k Keeper) Cancel(ctx context.Context, id string, old *State) error {
	return k.change(ctx, func(now *State) (*State, error) {
		if now == nil || now.ID != id {
			return now, nil
		}
		return old, nil
	})
}

// Confirm ends a pending try, and returns it: what was tried stays.
func (k Keeper) Confirm(ctx context.Context) (confirmed State, err error) {
	err = k.change(ctx, func(s *State) (*State, error) {
		now, err := Clock()
		switch {
		case err != nil:
			return nil, err
		case s == nil:
			return nil, ErrNone
		case s.Over(now):
			return nil, ErrOver
		}
		confirmed = *s
		return nil, nil
	})
	return confirmed, err
}

// Undo notes that a try is undone, and returns it. With an id it does so for that
// one alone; nil: it is not pending any more.
func (k Keeper) Undo(ctx context.Context, id string) (undone *State, err error) {
	err = k.change(ctx, func(s *State) (*State, error) {
		switch {
		case id != "" && (s == nil || s.ID != id || s.Undone):
			return s, nil
		case s == nil || s.Undone:
			return nil, ErrNone
		}
		next := *s
		next.Undone, undone = true, &next
		if now := time.Now(); now.Before(next.Until) {
			next.Until = now
		}
		return &next, nil
	})
	return undone, err
}

// Forget forgets a try: a pending one, and an undone one of another content.
func (k Keeper) Forget(ctx context.Context, read config.Config) error {
	if s, err := k.Read(); s == nil && err == nil {
		return nil
	}
	return k.change(ctx, func(s *State) (*State, error) {
		if s != nil && s.Undone && s.Tried == read.Digest() {
			return s, nil
		}
		return nil, nil
	})
}

// change replaces the state under a lock: nil removes it. It is on the disk then: the
// machine may be switched off because of what is tried.
func (k Keeper) change(ctx context.Context, by func(*State) (*State, error)) error {
	unlock, err := k.Dir.LockFile(ctx, state.TryLock, lockWait)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: that takes root", err)
	}
	if err != nil {
		return err
	}
	defer unlock()
	old, err := k.Read()
	if err != nil {
		return err
	}
	next, err := by(old)
	switch {
	case err != nil, next == old:
		return err
	case next == nil:
		err = os.Remove(k.File())
	default:
		err = k.Dir.WriteJSON(tryFile, next)
	}
	return errors.Join(err, k.Dir.Flush())
}

func readFile[T any](dir state.Dir, name string) (*T, error) {
	v := new(T)
	switch err := dir.ReadJSON(name, v, maxFile); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return v, nil
}

// Clock tells when it is.
func Clock() (Now, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Now{}, err
	}
	var since unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &since); err != nil {
		return Now{}, fmt.Errorf("read the time since boot: %w", err)
	}
	return Now{strings.TrimSpace(string(boot)), time.Duration(since.Nano())}, nil
}
