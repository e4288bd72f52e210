package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/regular"
)

const (
	dueDir  = "due"
	dueLock = "due.lock"

	// dueWait is how long a note waits for another one to be made or removed,
	// which takes microseconds.
	dueWait = time.Second
)

// MarkDue notes that a WireGuard device is to be refreshed. It is called before
// the step that makes it due, so that a kill after that step loses nothing.
func (d Dir) MarkDue(device string) error {
	if err := d.markDue(device); err != nil {
		return fmt.Errorf("note that %q is to be refreshed: %w", device, err)
	}
	return nil
}

func (d Dir) markDue(device string) error {
	path, err := d.duePath(device)
	if err != nil {
		return err
	}
	if err := d.makeDir(dueDir); err != nil {
		return err
	}
	// Without the lock it is noted all the same: at worst a refresh that just
	// ends takes the note away.
	if unlock, err := d.lockDue(); err == nil {
		defer unlock()
	}
	// A note that is cut short, or was not there when the disk was full, is a
	// note: only that it is there counts, and that it differs from the last.
	note := time.Now().Format(time.RFC3339Nano) + " " + strconv.Itoa(os.Getpid()) + "\n"
	return regular.Write(path, []byte(note), fileMode)
}

// Due returns the devices that are noted, each with its note, which ClearDue
// takes. To be refreshed by, it is read under Lock: then the steps of all notes
// were made, or their run is dead.
func (d Dir) Due() (map[string]string, error) {
	dir := filepath.Join(string(d), dueDir)
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read which devices are to be refreshed: %w", err)
	}
	due := make(map[string]string, len(entries))
	for _, e := range entries {
		if fwmark.ValidName(e.Name()) != nil || !e.Type().IsRegular() {
			continue
		}
		note, err := regular.Read(filepath.Join(dir, e.Name()), maxFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue // done since the folder was listed
		}
		due[e.Name()] = string(note) // one that can't be read is due all the same
	}
	return due, nil
}

// ClearDue removes a device's note once it was refreshed, unless another one
// was made since: that one's step may have come too late for this refresh.
func (d Dir) ClearDue(device, note string) error {
	path, err := d.duePath(device)
	if err != nil {
		return err
	}
	unlock, err := d.lockDue()
	if err != nil {
		return fmt.Errorf("note that %q was refreshed: %w", device, err)
	}
	defer unlock()
	if now, err := regular.Read(path, maxFile); err == nil && string(now) != note {
		return nil
	}
	if err := remove(path); err != nil {
		return fmt.Errorf("note that %q was refreshed: %w", device, err)
	}
	return nil
}

func (d Dir) duePath(device string) (string, error) {
	if err := fwmark.ValidName(device); err != nil {
		return "", fmt.Errorf("%q %w", device, err)
	}
	return filepath.Join(string(d), dueDir, device), nil
}

func (d Dir) lockDue() (unlock func(), err error) {
	for until := time.Now().Add(dueWait); ; time.Sleep(time.Millisecond) {
		unlock, ok, err := d.try(dueLock)
		if ok || err != nil {
			return unlock, err
		}
		if time.Now().After(until) {
			return nil, fmt.Errorf("%s: %w", filepath.Join(string(d), dueLock), ErrBusy)
		}
	}
}
