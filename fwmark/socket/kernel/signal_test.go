package kernel

import (
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/socket"
)

// TestSocketLoadedUnderSignals loads a program while signals come, as Go's own
// scheduler sends them to its threads.
func TestSocketLoadedUnderSignals(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, thread := unix.Getpid(), unix.Gettid()
	var all sync.WaitGroup
	ended := make(chan struct{})
	all.Add(1)
	go func() {
		defer all.Done()
		for {
			select {
			case <-ended:
				return
			default:
				_ = unix.Tgkill(pid, thread, unix.SIGURG) // the thread is there until ended is closed
			}
		}
	}()
	defer func() { close(ended); all.Wait() }()
	for range 300 {
		fd, err := load(socket.Create, socket.Nothing(), "wgmh_test")
		if err != nil {
			t.Fatalf("load a program: %v", err)
		}
		_ = unix.Close(fd) // a program has nothing to lose
	}
}
