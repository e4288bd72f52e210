package metrics

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// TestListen: a socket that was left is replaced, and nothing else is.
func TestListen(t *testing.T) {
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "file"), filepath.Join(dir, "socket")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:" + socket); err == nil {
		t.Error("a socket that somebody listens on was taken")
	}
	left.SetUnlinkOnClose(false)
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := Listen("unix:" + socket)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != socketMode {
		t.Errorf("%v, %v", info, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Listen("unix:" + file); err == nil || errors.Is(err, ErrAddress) {
		t.Errorf("a file: %v", err)
	}
	for _, address := range []string{"", "unix:", "localhost", "127.0.0.1:", "[::1"} {
		if _, err := Listen(address); !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %v", address, err)
		}
	}
	free, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	if _, err := Listen(free.Addr().String()); err == nil || errors.Is(err, ErrAddress) {
		t.Errorf("an address that another has: %v", err)
	}
}
