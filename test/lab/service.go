package lab

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Echo answers by UDP and TCP on addresses of a namespace, with the address
// that it sees, from a cgroup below the mount where one is given.
func (l *Lab) Echo(n *Namespace, cgroup string, addrs ...string) {
	l.t.Helper()
	listening := func() int { return strings.Count(n.Run("ss", "-Hlnut"), ":"+port+" ") }
	before := listening()
	n.Start([]string{roleVariable + "=echo"}, l.inCgroup(cgroup, append([]string{self(l.t)}, addrs...))...)
	Until(l.t, fmt.Sprintf("%s listens on %v", n.name, addrs), func() bool { return listening() >= before+2*len(addrs) })
}

// Behind makes a namespace behind the host, which forwards for it: device lan,
// 10.9.0.1/24 and fd00:9::1/64 on the host, .2 and ::2 there.
func (l *Lab) Behind() *Namespace {
	l.t.Helper()
	n := newNamespace(l.t, "lan", false, basics)
	l.Script(fmt.Sprintf(`sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip link add lan type veth peer name home netns %d
ip link set lan up; ip addr add 10.9.0.1/24 dev lan; ip addr add fd00:9::1/64 dev lan nodad`, n.pid))
	n.Script(`ip link set home up; ip addr add 10.9.0.2/24 dev home; ip addr add fd00:9::2/64 dev home nodad
ip route add default via 10.9.0.1; ip route add default via fd00:9::1`)
	return n
}

// Bridge makes a namespace on a bridge of the host: device br0, 10.8.0.1/24 and
// fd00:8::1/64 on the host, .2 and ::2 there.
func (l *Lab) Bridge() *Namespace {
	l.t.Helper()
	n := newNamespace(l.t, "container", false, basics)
	l.Script(fmt.Sprintf(`ip link add br0 type bridge; ip link add br0p1 type veth peer name home netns %d
ip link set br0p1 master br0; ip link set br0p1 up; ip link set br0 up
ip addr add 10.8.0.1/24 dev br0; ip addr add fd00:8::1/64 dev br0 nodad`, n.pid))
	n.Script(`ip link set home up; ip addr add 10.8.0.2/24 dev home; ip addr add fd00:8::2/64 dev home nodad
ip route add default via 10.8.0.1; ip route add default via fd00:8::1`)
	return n
}

// Talk is a UDP socket of a process that talks to far, as long as the test.
type Talk struct {
	l     *Lab
	stdin io.Writer
	lines *bufio.Reader
}

// Talk makes the socket.
func (l *Lab) Talk(q Query) *Talk {
	l.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	args := []string{self(l.t), q.Far, q.Source, strconv.FormatUint(uint64(q.Mark), 10)}
	from := q.From
	if from == nil {
		from = l.Namespace
	}
	cmd := from.Command(ctx, []string{roleVariable + "=talk"}, l.inCgroup(q.Cgroup, args)...)
	cmd.Stderr = os.Stderr
	stdin, stdout := talkTo(l.t, cmd)
	l.t.Cleanup(func() {
		_ = stdin.Close()
		time.AfterFunc(Patience, cancel)
		_ = cmd.Wait()
		cancel()
	})
	return &Talk{l, stdin, bufio.NewReader(stdout)}
}

// Say asks far by the socket, and returns the address that far saw. Where
// nothing came back it begins with "error: ".
func (t *Talk) Say() string {
	t.l.t.Helper()
	return t.order("ask")
}

// Send sends far a datagram, and waits for no answer.
func (t *Talk) Send() {
	t.l.t.Helper()
	if said := t.order("send"); said != "sent" {
		t.l.t.Fatalf("send: %s", said)
	}
}

func (t *Talk) order(what string) string {
	t.l.t.Helper()
	_, err := io.WriteString(t.stdin, what+"\n")
	fatal(t.l.t, err)
	line, err := t.lines.ReadString('\n')
	fatal(t.l.t, err)
	return strings.TrimSpace(line)
}

// talk asks far, or merely sends to it, by one UDP socket, for each line of its
// standard input: DESTINATION SOURCE MARK.
func talk(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: DESTINATION SOURCE MARK")
	}
	mark, err := strconv.ParseUint(args[2], 0, 32)
	if err != nil {
		return err
	}
	d, err := dialer("udp", args[1], 0, int(mark))
	if err != nil {
		return err
	}
	c, err := d.Dial("udp", net.JoinHostPort(args[0], port))
	if err != nil {
		return err
	}
	defer c.Close()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		answer := "sent"
		if lines.Text() == "send" {
			_, err = c.Write([]byte("!"))
		} else {
			answer, err = said(c)
		}
		if err != nil {
			answer = "error: " + err.Error()
		}
		fmt.Println(answer)
	}
	return nil
}

// said asks three times: a first datagram may be lost to neighbour discovery.
func said(c net.Conn) (answer string, err error) {
	const wait = 300 * time.Millisecond
	for range 3 {
		if _, err = c.Write([]byte("?")); err != nil {
			continue
		}
		if err = c.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return "", err
		}
		b := make([]byte, 100)
		var n int
		if n, err = c.Read(b); err == nil {
			return string(b[:n]), nil
		}
	}
	return "", err
}

// ping sends an echo request and waits for its answer. What far saw is not in
// it. The group of the process must be in net.ipv4.ping_group_range.
func ping(destination string) (string, error) {
	far, err := netip.ParseAddr(destination)
	if err != nil {
		return "", err
	}
	domain, proto, request := unix.AF_INET6, unix.IPPROTO_ICMPV6, byte(128)
	var to unix.Sockaddr = &unix.SockaddrInet6{Addr: far.As16()}
	if far.Is4() {
		domain, proto, request = unix.AF_INET, unix.IPPROTO_ICMP, 8
		to = &unix.SockaddrInet4{Addr: far.As4()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM, proto)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	wait := unix.NsecToTimeval(int64(time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return "", err
	}
	b := binary.BigEndian.AppendUint64([]byte{request, 0, 0, 0, 0, 0, 0, 1}, 0)
	if err := unix.Sendto(fd, b, 0, to); err != nil {
		return "", err
	}
	if _, _, err := unix.Recvfrom(fd, b, 0); err != nil {
		if errors.Is(err, syscall.EAGAIN) {
			return "", os.ErrDeadlineExceeded
		}
		return "", err
	}
	return "answered", nil
}
