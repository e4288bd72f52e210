package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Sender is what sends: datagrams to port 9.
type Sender struct {
	To     string // any address, multicast and broadcast too
	Source string // "": the socket is bound to no address
	Mark   uint32 // 0: as the socket has it
	Cgroup string // below the mount; "": the test's own
	Device string // "": the kernel chooses. Else the socket is bound to it (SO_BINDTODEVICE)
	Hint   bool   // or each datagram is (IP_PKTINFO)
	Size   int    // of each datagram; 0: one byte

	From  *Namespace    // nil: the host
	Pause time.Duration // after each datagram
}

// Send sends so many datagrams, and returns how many left the socket.
func (l *Lab) Send(b Sender, count int) int {
	l.t.Helper()
	r := b.from(l).Try([]string{roleVariable + "=send"}, l.inCgroupFrom(b.from(l), b.Cgroup, append(b.args(l), strconv.Itoa(count)))...)
	n, err := strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(r.Stdout), "begun\n"))
	if err != nil {
		l.t.Fatalf("send %+v: %q", b, r.Stdout)
	}
	return n
}

// Stream sends, as fast as it can without a Pause, until stop is called, which returns how many
// datagrams left the socket.
func (l *Lab) Stream(b Sender) (stop func() int) {
	l.t.Helper()
	return l.counting(l.endless(b.from(l), "send", l.inCgroupFrom(b.from(l), b.Cgroup, append(b.args(l), "0"))...))
}

func (b Sender) from(l *Lab) *Namespace {
	if b.From == nil {
		return l.Namespace
	}
	return b.From
}

func (b Sender) args(l *Lab) []string {
	l.t.Helper()
	return []string{self(l.t), b.To, b.Source, fmt.Sprint(b.Mark), b.Device, fmt.Sprint(b.Hint), fmt.Sprint(max(b.Size, 1)), b.Pause.String()}
}

// counting is for a role that says a number in the end.
func (l *Lab) counting(stop func() string) func() int {
	return func() int {
		l.t.Helper()
		n, err := strconv.Atoi(strings.TrimSpace(stop()))
		fatal(l.t, err)
		return n
	}
}

// endless starts a role that says "begun", goes on until its standard input
// ends, and says a line then.
func (l *Lab) endless(from *Namespace, role string, args ...string) (stop func() string) {
	l.t.Helper()
	cmd := from.Command(context.Background(), []string{roleVariable + "=" + role}, args...)
	stdin, stdout := talkTo(l.t, cmd)
	lines := bufio.NewReader(stdout)
	if line, err := lines.ReadString('\n'); err != nil || line != "begun\n" {
		l.t.Fatalf("%s: %q, %v", role, line, err)
	}
	return func() string {
		l.t.Helper()
		fatal(l.t, stdin.Close())
		line, err := lines.ReadString('\n')
		fatal(l.t, err)
		_, _ = io.Copy(io.Discard, lines)
		fatal(l.t, cmd.Wait())
		return line
	}
}

// send is a sender: DESTINATION SOURCE MARK DEVICE HINT SIZE PAUSE COUNT. A count of 0 is
// until standard input ends.
func send(args []string) error {
	if len(args) != 8 {
		return errors.New("usage: DESTINATION SOURCE MARK DEVICE HINT SIZE PAUSE COUNT")
	}
	to, err := netip.ParseAddr(args[0])
	if err != nil {
		return err
	}
	mark, err := strconv.ParseUint(args[2], 0, 32)
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(args[5])
	if err != nil {
		return err
	}
	pause, err := time.ParseDuration(args[6])
	if err != nil {
		return err
	}
	count, err := strconv.Atoi(args[7])
	if err != nil {
		return err
	}
	s, err := newSender(to, int(mark), args[3], args[4] == "true")
	if err != nil {
		return err
	}
	if err := s.bind(args[1]); err != nil {
		return err
	}
	ended := make(chan struct{})
	if count == 0 {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			close(ended)
		}()
	}
	fmt.Println("begun")
	sent := 0
	for i := 0; count == 0 || i < count; i++ {
		select {
		case <-ended:
			fmt.Println(sent)
			return nil
		default:
		}
		// The lock's drop is EPERM here: it is no failure of the test.
		if unix.Sendmsg(s.fd, make([]byte, size), s.control, s.to, 0) == nil {
			sent++
		}
		time.Sleep(pause)
	}
	fmt.Println(sent)
	return nil
}

type sender struct {
	fd      int
	to      unix.Sockaddr
	control []byte
}

// bind binds the socket to a source, where there is one.
func (s sender) bind(source string) error {
	if source == "" {
		return nil
	}
	a, err := netip.ParseAddr(source)
	if err != nil {
		return err
	}
	if a.Is4() {
		return unix.Bind(s.fd, &unix.SockaddrInet4{Addr: a.As4()})
	}
	return unix.Bind(s.fd, &unix.SockaddrInet6{Addr: a.As16()})
}

func newSender(to netip.Addr, mark int, device string, hint bool) (sender, error) {
	const discard = 9
	index := 0
	if device != "" {
		d, err := net.InterfaceByName(device)
		if err != nil {
			return sender{}, err
		}
		index = d.Index
	}
	var s sender
	family := unix.AF_INET6
	if to.Is4() {
		family = unix.AF_INET
		s.to = &unix.SockaddrInet4{Port: discard, Addr: to.As4()}
	} else {
		a := &unix.SockaddrInet6{Port: discard, Addr: to.As16()}
		if to.IsLinkLocalUnicast() || to.IsLinkLocalMulticast() {
			a.ZoneId = uint32(index)
		}
		s.to = a
	}
	switch {
	case hint && to.Is4():
		s.control = unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(index)})
	case hint:
		s.control = unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(index)})
	}
	var err error
	if s.fd, err = unix.Socket(family, unix.SOCK_DGRAM, 0); err != nil {
		return s, err
	}
	for _, option := range []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_MARK, mark}, {unix.SOL_SOCKET, unix.SO_BROADCAST, 1},
	} {
		if option.value == 0 {
			continue
		}
		if err := unix.SetsockoptInt(s.fd, option.level, option.name, option.value); err != nil {
			return s, err
		}
	}
	if device != "" && !hint {
		return s, unix.BindToDevice(s.fd, device)
	}
	return s, nil
}
