package lab

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Watch is a `watch` that runs on the host.
type Watch struct {
	l      *Lab
	cmd    *exec.Cmd
	notify *net.UnixConn

	mu    sync.Mutex
	said  bytes.Buffer
	told  []string // to systemd
	ended chan struct{}
}

// notifySocket is where it tells what it would tell systemd.
const notifySocket = "/run/notify"

// Watch starts `watch`, and waits until it says that it is ready. It ends with the
// test.
func (l *Lab) Watch(args ...string) *Watch {
	l.t.Helper()
	w := l.StartWatch(args...)
	Until(l.t, "watch is ready", func() bool { return w.Told("READY=1") })
	return w
}

// StartWatch starts it, and waits for nothing.
func (l *Lab) StartWatch(args ...string) *Watch {
	l.t.Helper()
	_ = os.Remove(l.Path(notifySocket)) // of one before
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: l.Path(notifySocket), Net: "unixgram"})
	fatal(l.t, err)
	w := &Watch{l: l, notify: notify, ended: make(chan struct{})}
	w.cmd = l.Command(context.Background(), []string{"NOTIFY_SOCKET=" + notifySocket}, append([]string{l.Binary, "watch"}, args...)...)
	w.cmd.Stdout, w.cmd.Stderr = w, w
	fatal(l.t, w.cmd.Start())
	go w.hear()
	go func() {
		_ = w.cmd.Wait()
		close(w.ended)
	}()
	l.t.Cleanup(func() {
		w.Signal(syscall.SIGKILL)
		<-w.ended
		_ = notify.Close()
		if l.t.Failed() {
			l.t.Logf("watch:\n%s", w.Said())
		}
	})
	return w
}

// Write takes what it says.
func (w *Watch) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said.Write(p)
}

func (w *Watch) hear() {
	message := make([]byte, 4<<10)
	for {
		n, err := w.notify.Read(message)
		if err != nil {
			return
		}
		w.mu.Lock()
		w.told = append(w.told, string(message[:n]))
		w.mu.Unlock()
	}
}

// Said returns what it has said on stderr.
func (w *Watch) Said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said.String()
}

// Told reports whether it has told systemd something that begins so.
func (w *Watch) Told(prefix string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, told := range w.told {
		if strings.HasPrefix(told, prefix) {
			return true
		}
	}
	return false
}

// PID is its process's: nsenter(1) has become it.
func (w *Watch) PID() int { return w.cmd.Process.Pid }

// Signal sends it a signal.
func (w *Watch) Signal(s syscall.Signal) { _ = w.cmd.Process.Signal(s) }

// Wait waits for its end, and returns its exit status.
func (w *Watch) Wait() int {
	w.l.t.Helper()
	select {
	case <-w.ended:
	case <-time.After(Patience):
		w.l.t.Fatal("watch does not end")
	}
	return w.cmd.ProcessState.ExitCode()
}
