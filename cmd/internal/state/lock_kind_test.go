package state_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"wg-multihome/cmd/internal/state"
)

// notRegular makes what a lock's file may be by mistake or by malice.
var notRegular = map[string]func(path string) error{
	"a FIFO":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
	"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
	"a symlink to a FIFO": func(path string) error {
		return errors.Join(syscall.Mkfifo(path+".real", 0o600), os.Symlink(path+".real", path))
	},
	"a device": func(path string) error { return os.Symlink("/dev/null", path) },
	"a socket": func(path string) error {
		_, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		return err
	},
}

// soon fails the test where something waits for ever.
func soon(t *testing.T, what string, do func() error) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- do() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(20 * time.Second):
		t.Fatalf("%s hangs", what)
		return nil
	}
}

func TestLockIsNoRegularFile(t *testing.T) {
	for name, put := range notRegular {
		t.Run(name, func(t *testing.T) {
			for file, take := range map[string]func(state.Dir) error{
				"lock":      func(d state.Dir) error { _, err := d.Lock(context.Background(), time.Minute); return err },
				"tell.lock": func(d state.Dir) error { _, _, err := d.TryTell(); return err },
				"due.lock":  func(d state.Dir) error { return d.ClearDue("wg0", "") },
			} {
				d := tempDir(t)
				check(t, os.MkdirAll(string(d), 0o755))
				path := filepath.Join(string(d), file)
				check(t, put(path))
				err := soon(t, file, func() error { return take(d) })
				if err == nil || errors.Is(err, state.ErrBusy) || !strings.Contains(err.Error(), path) {
					t.Errorf("%s: %v", file, err)
				}
			}
		})
	}
}

// A device is due whatever its lock is, and a note that is no regular file is
// not waited for.
func TestDueIsNoRegularFile(t *testing.T) {
	for name, put := range notRegular {
		t.Run(name, func(t *testing.T) {
			d := tempDir(t)
			check(t, os.MkdirAll(filepath.Join(string(d), "due"), 0o755))
			check(t, put(filepath.Join(string(d), "due.lock")))
			check(t, soon(t, "MarkDue without its lock", func() error { return d.MarkDue("wg0") }))
			if due, err := d.Due(); err != nil || due["wg0"] == "" {
				t.Errorf("%v %v", due, err)
			}
			note := filepath.Join(string(d), "due", "wg1")
			check(t, put(note))
			if err := soon(t, "MarkDue", func() error { return d.MarkDue("wg1") }); err == nil || !strings.Contains(err.Error(), note) {
				t.Errorf("MarkDue: %v", err)
			}
			_ = soon(t, "Due", func() error { _, err := d.Due(); return err })
			check(t, os.RemoveAll(filepath.Join(string(d), "due.lock")))
			_ = soon(t, "ClearDue", func() error { return d.ClearDue("wg1", "") })
		})
	}
}
