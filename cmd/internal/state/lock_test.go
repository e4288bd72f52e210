package state_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wg-multihome/cmd/internal/state"
)

// helper names what this binary does for a test, in a process of its own; its
// last argument is STATE-DIR.
const helper = "STATE_TEST_HELPER"

func TestMain(m *testing.M) {
	d := state.Dir(os.Args[len(os.Args)-1])
	switch os.Getenv(helper) {
	case "hold":
		holdLocks(d)
	case "read-only":
		useReadOnly(d)
	default:
		os.Exit(m.Run())
	}
}

func start(t *testing.T, what string, d state.Dir) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], string(d))
	cmd.Env = append(os.Environ(), helper+"="+what)
	cmd.Stderr = os.Stderr
	return cmd
}

func holdLocks(d state.Dir) {
	if _, err := d.Lock(context.Background(), 0); err != nil {
		os.Exit(1)
	}
	if _, ok, err := d.TryTell(); !ok || err != nil {
		os.Exit(1)
	}
	os.Stdout.WriteString("held\n")
	<-time.After(time.Minute) // until it is killed
}

func TestKilledHolder(t *testing.T) {
	d := tempDir(t)
	cmd := start(t, "hold", d)
	out, err := cmd.StdoutPipe()
	check(t, err)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 5)); n != 5 {
		t.Fatal(err)
	}
	if _, err := d.Lock(context.Background(), 30*time.Millisecond); !errors.Is(err, state.ErrBusy) {
		t.Errorf("while it is held: %v", err)
	}
	if _, ok, err := d.TryTell(); ok || err != nil {
		t.Errorf("while it is held: %v %v", ok, err)
	}
	taken := make(chan error)
	go func() {
		_, err := d.Lock(context.Background(), 20*time.Second)
		taken <- err
	}()
	check(t, cmd.Process.Kill())
	check(t, <-taken)
	_ = cmd.Wait()
	if _, ok, err := d.TryTell(); !ok || err != nil {
		t.Errorf("after its end: %v %v", ok, err)
	}
}

func TestLock(t *testing.T) {
	d := tempDir(t)
	ctx := context.Background()
	unlock, err := d.Lock(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err = d.Lock(ctx, 50*time.Millisecond)
	if waited := time.Since(began); !errors.Is(err, state.ErrBusy) || waited < 50*time.Millisecond || waited > 5*time.Second {
		t.Errorf("%v after %v", err, waited)
	}
	if !strings.Contains(err.Error(), string(d)) {
		t.Errorf("the error names no file: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := d.Lock(short, time.Minute); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, state.ErrBusy) {
		t.Errorf("ctx ended: %v", err)
	}
	unlockTell, ok, err := d.TryTell()
	if !ok || err != nil {
		t.Errorf("the two locks are one: %v %v", ok, err)
	}
	unlock()
	unlock() // harmless
	unlockTell()
	if unlock, err = d.Lock(ctx, 0); err != nil {
		t.Errorf("after unlock: %v", err)
	}
	unlock()
	for _, file := range []string{"lock", "tell.lock"} {
		// Whoever can open it can hold it.
		if info, err := os.Stat(filepath.Join(string(d), file)); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v %v", file, info.Mode(), err)
		}
	}
}

func TestConcurrentLock(t *testing.T) {
	d := tempDir(t)
	var wg sync.WaitGroup
	var holders atomic.Int32
	for range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			unlock, err := d.Lock(context.Background(), time.Minute)
			if err != nil {
				t.Error(err)
				return
			}
			if n := holders.Add(1); n != 1 {
				t.Errorf("%d holders at once", n)
			}
			<-time.After(time.Millisecond) // time for others to come in, if they could
			holders.Add(-1)
			unlock()
		}()
	}
	wg.Wait()
}

func TestLockWithoutADirectory(t *testing.T) {
	d := state.Dir(filepath.Join(t.TempDir(), "file", "state"))
	put(t, state.Dir(filepath.Dir(string(d))), "", "")
	if _, err := d.Lock(context.Background(), time.Minute); !errors.Is(err, syscall.ENOTDIR) || errors.Is(err, state.ErrBusy) {
		t.Errorf("got %v", err)
	}
	if _, ok, err := d.TryTell(); ok || !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("got %v %v", ok, err)
	}
	d = tempDir(t)
	check(t, os.MkdirAll(filepath.Join(string(d), "lock"), 0o755))
	if _, err := d.Lock(context.Background(), time.Minute); !errors.Is(err, syscall.EISDIR) && !errors.Is(err, fs.ErrExist) {
		t.Errorf("lock is a directory: %v", err)
	}
}

// A read-only STATE-DIR needs a read-only mount: root writes past mode bits.
func TestReadOnly(t *testing.T) {
	d := tempDir(t)
	check(t, d.WriteLease("eth0", record))
	cmd := start(t, "read-only", d)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		t.Skipf("no user and mount namespace here: %v", err)
	case err != nil && exit.ExitCode() == 3:
		t.Skipf("no read-only mount here: %s", out)
	case err != nil || len(out) > 0:
		t.Errorf("%v: %s", err, out)
	}
}

func useReadOnly(d state.Dir) {
	fail := func(code int, text string, err error) {
		if err != nil {
			text += ": " + err.Error()
		}
		os.Stdout.WriteString(text + "\n")
		os.Exit(code)
	}
	const bind = syscall.MS_BIND
	if err := syscall.Mount(string(d), string(d), "", bind, ""); err != nil {
		fail(3, "mount", err)
	}
	if err := syscall.Mount("", string(d), "", bind|syscall.MS_REMOUNT|syscall.MS_RDONLY|syscall.MS_NODEV|syscall.MS_NOSUID, ""); err != nil {
		fail(3, "remount", err)
	}
	if got, errs := d.ReadLeases(); len(got) != 1 || errs != nil {
		fail(1, "records are not read", errors.Join(errs...))
	}
	_, lockErr := d.Lock(context.Background(), time.Minute)
	_, _, tellErr := d.TryTell()
	for _, c := range []struct {
		call string
		err  error
	}{
		{"WriteLease", d.WriteLease("eth0", record)}, {"WriteLease of another", d.WriteLease("eth1", record)},
		{"DropLease", d.DropLease("eth0")}, {"WriteTold", d.WriteTold("eth0", state.Told{})},
		{"Lock", lockErr}, {"TryTell", tellErr},
	} {
		if !errors.Is(c.err, syscall.EROFS) || !strings.Contains(c.err.Error(), string(d)) {
			fail(1, c.call, c.err)
		}
	}
	if err := d.DropLease("eth7"); err != nil && !errors.Is(err, syscall.EROFS) {
		fail(1, "DropLease of none", err)
	}
	os.Exit(0)
}

// TestLockWatch: who asks whether a watch runs holds its lock for a moment, and keeps
// none from beginning.
func TestLockWatch(t *testing.T) {
	d := tempDir(t)
	unlock, err := d.LockWatch(context.Background())
	check(t, err)
	if !d.Watched() {
		t.Error("a watch is not seen")
	}
	if _, err := d.LockWatch(context.Background()); !errors.Is(err, state.ErrBusy) {
		t.Errorf("a second one: %v", err)
	}
	unlock()
	asks, err := os.Open(filepath.Join(string(d), "watch.lock"))
	check(t, err)
	check(t, syscall.Flock(int(asks.Fd()), syscall.LOCK_SH))
	time.AfterFunc(100*time.Millisecond, func() { asks.Close() })
	unlock, err = d.LockWatch(context.Background())
	check(t, err)
	unlock()
}
