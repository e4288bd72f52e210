package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// Spray is a process on the host that sends to far, both families: datagrams to port
// 9, from a socket that stays and from a new one each millisecond, and now and then a
// TCP connection to port 8. It may be killed at any moment.
type Spray struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

// Spray starts one in a cgroup below the mount, "" for the test's own, by a command
// where one is given.
func (l *Lab) Spray(cgroup string, by ...string) (*Spray, error) {
	cmd := l.Command(context.Background(), []string{roleVariable + "=spray"}, l.inCgroup(cgroup, append(append([]string{}, by...), self(l.t)))...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return &Spray{cmd, stdin}, cmd.Start()
}

// Kill ends, by SIGKILL, what was started: the command, where one was given, and not
// what that has started.
func (s *Spray) Kill() { _ = s.cmd.Process.Kill() }

// End has it end by itself, and what its command has left, and waits for it.
func (s *Spray) End() {
	_ = s.stdin.Close()
	_ = s.cmd.Wait()
}

// spray is the role. It goes on until standard input ends.
func spray([]string) error {
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	stays := map[string]net.Conn{}
	for n, ticks := 0, time.NewTicker(time.Millisecond); ; n++ {
		select {
		case <-ended:
			return nil
		case <-ticks.C:
		}
		for _, far := range []string{Far4, Far6} {
			to := net.JoinHostPort(far, "9")
			if stays[far] == nil {
				c, err := unconnectedTo(to, "")
				if err != nil {
					return fmt.Errorf("make a socket: %w", err)
				}
				stays[far] = c
			}
			_, _ = stays[far].Write([]byte("stays")) // refused: unreachable
			if c, err := net.Dial("udp", to); err == nil {
				for range 3 {
					_, _ = c.Write([]byte("new"))
				}
				_ = c.Close()
			}
			if n%20 == 0 {
				beginConnection(far)
			}
		}
	}
}

// beginConnection sends a SYN, and does not wait for its answer.
func beginConnection(far string) {
	a, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(far, chatPort))
	if err != nil {
		return
	}
	domain, peer := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: a.AddrPort().Addr().As16(), Port: a.Port})
	if a.AddrPort().Addr().Is4() {
		domain, peer = unix.AF_INET, &unix.SockaddrInet4{Addr: a.AddrPort().Addr().As4(), Port: a.Port}
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return
	}
	if err := unix.Connect(fd, peer); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd) // refused: unreachable
		return
	}
	// It stays for a while, so that a change meets it.
	time.AfterFunc(time.Second, func() { _ = unix.Close(fd) })
}
