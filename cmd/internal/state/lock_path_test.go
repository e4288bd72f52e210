package state

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// replacements are what others may do to a lock's file after it was opened.
var replacements = map[string]func(path string) error{
	"removed": os.Remove,
	"replaced": func(path string) error {
		return errors.Join(os.WriteFile(path+".new", nil, lockMode), os.Rename(path+".new", path))
	},
	"moved with its directory": func(path string) error { return os.Rename(filepath.Dir(path), filepath.Dir(path)+".old") },
}

// TestLockIsThatOfThePath: the next run locks the file that is in its place
// then, so a run must have that one.
func TestLockIsThatOfThePath(t *testing.T) {
	for name, replace := range replacements {
		t.Run(name, func(t *testing.T) {
			d := Dir(filepath.Join(t.TempDir(), "wg-multihome"))
			opened := 0
			unlock, ok, err := d.take(lockFile, func(path string) (*os.File, error) {
				f, err := openLock(path)
				if opened++; opened == 1 {
					err = errors.Join(err, replace(path))
				}
				return f, err
			})
			if !ok || err != nil {
				t.Fatalf("%v %v", ok, err)
			}
			defer unlock()
			if _, ok, err := d.try(lockFile); ok || err != nil {
				t.Errorf("a second run takes the lock too: %v %v", ok, err)
			}
		})
	}
}

// TestLockThatIsReplacedForEver: it is tried so often, and then there is an
// error that names the file.
func TestLockThatIsReplacedForEver(t *testing.T) {
	d := Dir(t.TempDir())
	opened := 0
	_, ok, err := d.take(lockFile, func(path string) (*os.File, error) {
		opened++
		f, err := openLock(path)
		return f, errors.Join(err, os.Remove(path))
	})
	if ok || err == nil || opened != takes {
		t.Errorf("%v %v, opened %d times", ok, err, opened)
	}
}
