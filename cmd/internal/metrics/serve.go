package metrics

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sys/unix"
)

// ErrAddress says that an address is none.
var ErrAddress = errors.New("is neither ADDR:PORT nor unix:PATH")

// socketMode is that of a socket: for root, and its group.
const socketMode = 0o660

// Listen listens on ADDR:PORT, or on a socket, unix:PATH. A socket that nobody
// listens on, which a process that was killed has left, is replaced.
// errors.Is(err, ErrAddress) where it is no address at all.
func Listen(address string) (net.Listener, error) {
	if path, is := strings.CutPrefix(address, "unix:"); is {
		if path == "" {
			return nil, fmt.Errorf("%q %w", address, ErrAddress)
		}
		return listenUnix(path)
	}
	if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
		return nil, fmt.Errorf("%q %w", address, ErrAddress)
	}
	return net.Listen("tcp", address)
}

func listenUnix(path string) (net.Listener, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is no socket, and is left as it is", path)
	default:
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			_ = c.Close() // nothing was sent
			return nil, fmt.Errorf("another process listens on %s", path)
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return nil, err
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	// By umask: a mode that is set by name may get to another file, where somebody
	// else's folder is. Nothing of watch makes files at that time.
	old := unix.Umask(0o777 &^ socketMode)
	defer unix.Umask(old)
	return net.Listen("unix", path)
}

// Bounds on whoever asks.
const (
	askTime   = 5 * time.Second  // for a request to come
	tellTime  = 30 * time.Second // for the answer to go
	maxHeader = 16 << 10         // in bytes
)

// Serve answers GET /metrics until ctx ends.
func Serve(ctx context.Context, l net.Listener, r *prometheus.Registry) {
	mux := http.NewServeMux()
	// One at a time: each has the host looked at.
	mux.Handle("GET /metrics", promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 1, ErrorHandling: promhttp.ContinueOnError}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: askTime, ReadTimeout: askTime, WriteTimeout: tellTime, IdleTimeout: time.Minute, MaxHeaderBytes: maxHeader}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	_ = server.Serve(l) // it ends when ctx does
}
