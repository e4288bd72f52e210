package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Flow is one flow of a process on the host: a datagram every millisecond, or
// as many bytes of a TCP connection, which is made anew where it ends.
type Flow struct {
	Network   string // udp or tcp
	To        string
	Port      int      // 0: where Echo answers
	Source    string   // "": the kernel chooses
	Size      int      // of a datagram, by which it is known where NAT changes ports; 0: 1 byte
	Cgroup    string   // below the mount; "": the test's own
	By        []string // a command that runs it; nil: none
	Connected bool     // a UDP socket is connected, so its source is chosen once

	From *Namespace // nil: the host
}

// often is how far apart the datagrams of a flow are.
const often = time.Millisecond

// Flow starts the flow. It goes on until stop is called, which returns how many
// datagrams left the socket.
func (l *Lab) Flow(f Flow) (stop func() int) {
	l.t.Helper()
	to := port
	if f.Port != 0 {
		to = strconv.Itoa(f.Port)
	}
	args := []string{self(l.t), f.Network, net.JoinHostPort(f.To, to), f.Source, strconv.FormatBool(f.Connected), strconv.Itoa(max(1, f.Size))}
	from := l.Namespace
	if f.From != nil {
		from = f.From
	}
	return l.counting(l.endless(from, "flow", l.inCgroup(f.Cgroup, append(append([]string{}, f.By...), args...))...))
}

// flow is the role: NETWORK DESTINATION SOURCE CONNECTED SIZE. It goes on
// until standard input ends.
func flow(args []string) error {
	if len(args) != 5 {
		return errors.New("usage: NETWORK DESTINATION SOURCE CONNECTED SIZE")
	}
	size, err := strconv.Atoi(args[4])
	if err != nil {
		return err
	}
	datagram := bytes.Repeat([]byte("?"), size)
	d, err := dialer(args[0], args[2], 0, 0)
	if err != nil {
		return err
	}
	dial := func() (net.Conn, error) { return d.Dial(args[0], args[1]) }
	switch {
	case args[0] == "tcp":
		dial = func() (net.Conn, error) { return impatient(d, args[1]) }
	case args[3] != "true":
		dial = func() (net.Conn, error) { return unconnectedTo(args[1], args[2]) }
	}
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	fmt.Println("begun")
	var c net.Conn
	sent := 0
	for ticks := time.NewTicker(often); ; {
		select {
		case <-ended:
			fmt.Println(sent)
			return nil
		case <-ticks.C:
		}
		if c == nil {
			if c, err = dial(); err != nil {
				c = nil // refused: unreachable
				continue
			}
			go drain(c)
		}
		_ = c.SetWriteDeadline(time.Now().Add(often))
		_, err := c.Write(datagram)
		switch {
		case err == nil:
			sent++
		case args[0] == "tcp" && !errors.Is(err, os.ErrDeadlineExceeded):
			_ = c.Close()
			c = nil
		}
	}
}

// drain reads what comes back, as long as something can.
func drain(c net.Conn) {
	for b := make([]byte, 1500); ; {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

// impatient is a TCP connection that ends when nothing is answered for a
// second.
func impatient(d net.Dialer, destination string) (net.Conn, error) {
	c, err := d.Dial("tcp", destination)
	if err != nil {
		return nil, err
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	err = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(time.Second/time.Millisecond))
	})
	return c, err
}

// unconnected is a UDP socket that names the destination with each datagram,
// so that the kernel looks for a route and a source each time.
type unconnected struct {
	*net.UDPConn
	to *net.UDPAddr
}

func (u unconnected) Write(b []byte) (int, error) { return u.WriteToUDP(b, u.to) }

func unconnectedTo(destination, source string) (net.Conn, error) {
	to, err := net.ResolveUDPAddr("udp", destination)
	if err != nil {
		return nil, err
	}
	network := "udp6"
	if to.IP.To4() != nil {
		network = "udp4" // a socket of both families would be one of IPv6
	}
	c, err := net.ListenUDP(network, &net.UDPAddr{IP: net.ParseIP(source)})
	if err != nil {
		return nil, err
	}
	return unconnected{c, to}, nil
}
