package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sinkPort is where sinks listen.
const sinkPort = "9"

// Sink is a TCP server with a small buffer, which reads nothing until it is told to.
type Sink struct {
	l     *Lab
	stdin io.WriteCloser
	lines *bufio.Reader
}

// Sink starts one on an address of far. It takes one connection.
func (l *Lab) Sink(addr string) *Sink {
	l.t.Helper()
	cmd := l.Far.Command(context.Background(), []string{roleVariable + "=sink"}, self(l.t), addr)
	cmd.Stderr = os.Stderr
	stdin, stdout := talkTo(l.t, cmd)
	l.t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s := &Sink{l, stdin, bufio.NewReader(stdout)}
	if said := s.line(); said != "listens" {
		l.t.Fatalf("a sink says %q", said)
	}
	return s
}

// Read has it read all, and returns how much came from where: "7 bytes from ADDRESS".
func (s *Sink) Read() string {
	s.l.t.Helper()
	fatal(s.l.t, s.stdin.Close())
	return s.line()
}

func (s *Sink) line() string {
	s.l.t.Helper()
	line, err := s.lines.ReadString('\n')
	fatal(s.l.t, err)
	return strings.TrimSpace(line)
}

// Leaving returns a command, and its variable, that sends far so many bytes and ends,
// while they are in its socket still.
func (l *Lab) Leaving(far string, bytes int) (variable string, command []string) {
	l.t.Helper()
	return roleVariable + "=leave", []string{self(l.t), far, strconv.Itoa(bytes)}
}

// sink is the role: ADDRESS.
func sink(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: ADDRESS")
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		control := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
		return errors.Join(control, err)
	}}
	listener, err := config.Listen(context.Background(), "tcp", net.JoinHostPort(args[0], sinkPort))
	if err != nil {
		return err
	}
	fmt.Println("listens")
	c, err := listener.Accept()
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, c)
	if err != nil {
		return fmt.Errorf("after %d bytes: %w", n, err)
	}
	fmt.Printf("%d bytes from %s\n", n, host(c.RemoteAddr()))
	return nil
}

// leave is the role: DESTINATION BYTES.
func leave(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: DESTINATION BYTES")
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	d := net.Dialer{Timeout: time.Second, Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		control := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*n) })
		return errors.Join(control, err)
	}}
	c, err := d.Dial("tcp", net.JoinHostPort(args[0], sinkPort))
	if err != nil {
		return err
	}
	if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, err = c.Write(make([]byte, n)) // which the kernel takes at once
	return err
}
