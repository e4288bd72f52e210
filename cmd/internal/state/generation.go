package state

import (
	"os"
	"path/filepath"
	"time"
)

// MarkRun notes that a run which held the lock is done, before it lets go: by
// the time of the lock's file. Where that cannot be written, LastRun does not
// change.
func (d Dir) MarkRun() {
	now := time.Now()
	_ = os.Chtimes(filepath.Join(string(d), lockFile), now, now)
}

// LastRun returns when a run was done last; the zero time where that cannot be
// told. Two that are equal, and not zero, say that no run ended in between.
func (d Dir) LastRun() time.Time {
	info, err := os.Stat(filepath.Join(string(d), lockFile))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
