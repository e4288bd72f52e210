package lab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
)

// Tunnel is a running WireGuard device.
type Tunnel struct {
	l     *Lab
	stdin io.WriteCloser
	lines *bufio.Reader
	wait  func() error
}

// Tunnel starts a device in a namespace that has mounts of its own, so that
// its socket is nobody else's. config is of the cross-platform protocol.
func (l *Lab) Tunnel(n *Namespace, name, config string) *Tunnel {
	l.t.Helper()
	cmd := n.Command(context.Background(), []string{roleVariable + "=wireguard"}, self(l.t), name)
	if !n.mounts {
		cmd = n.Command(context.Background(), []string{roleVariable + "=wireguard"}, "unshare", "--mount", "sh", "-c",
			`mount -t tmpfs none /run; exec "$0" "$@"`, self(l.t), name)
	}
	stdin, stdout := talkTo(l.t, cmd)
	l.t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait() // an error where Stop waited
	})
	t := &Tunnel{l, stdin, bufio.NewReader(stdout), cmd.Wait}
	_, err := io.WriteString(stdin, config+"\n\n")
	fatal(l.t, err)
	if line, err := t.lines.ReadString('\n'); err != nil || line != "up\n" {
		l.t.Fatalf("tunnel %s: %q, %v", name, line, err)
	}
	return t
}

// Stop ends the device; its interface goes with it.
func (t *Tunnel) Stop() {
	t.l.t.Helper()
	fatal(t.l.t, t.stdin.Close())
	fatal(t.l.t, t.wait())
}

// Set configures the device further: KEY=VALUE, as of the protocol.
func (t *Tunnel) Set(config ...string) {
	t.l.t.Helper()
	_, err := io.WriteString(t.stdin, "set "+strings.Join(config, " ")+"\n")
	fatal(t.l.t, err)
}

// Get returns the value of a key of the device's state, "" where it has none;
// of several peers that of the last one.
func (t *Tunnel) Get(key string) string {
	t.l.t.Helper()
	_, err := io.WriteString(t.stdin, "get\n")
	fatal(t.l.t, err)
	value := ""
	for {
		line, err := t.lines.ReadString('\n')
		fatal(t.l.t, err)
		line = strings.TrimSpace(line)
		if line == "" {
			return value
		}
		if k, v, _ := strings.Cut(line, "="); k == key {
			value = v
		}
	}
}

// WireGuardGo installs wireguard-go where wg-quick looks for it on the host,
// and returns the variable that says so.
func (l *Lab) WireGuardGo() string {
	l.t.Helper()
	const path = "/run/wireguard-go"
	// A device of the same name that is gone has left its socket.
	l.Write(path, fmt.Sprintf(`#!/bin/sh
rm -f "/run/wireguard/$1.sock" "%[3]s$1"
%[1]s=wireguard-go %[2]s "$1" </dev/null >/run/wireguard-go.log 2>&1 &
echo $! >>/run/wireguard-go.pids
tries=0
until [ -e "%[3]s$1" ]; do
	tries=$((tries + 1))
	[ $tries -lt 500 ] || exit 1
	sleep 0.01
done
`, roleVariable, self(l.t), readyFile), 0o755)
	l.t.Cleanup(func() { // those whose interface stands at the end
		for _, pid := range strings.Fields(l.Read("/run/wireguard-go.pids")) {
			l.Try(nil, "sh", "-c", `[ "$(readlink "/proc/$0/exe")" != "$1" ] || kill "$0"`, pid, self(l.t))
		}
	})
	return "WG_QUICK_USERSPACE_IMPLEMENTATION=" + path
}
