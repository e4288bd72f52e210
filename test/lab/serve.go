package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Server starts a server in a namespace, in a cgroup below the mount where one is given,
// that answers with the address that it sees. kind is tcp, mptcp, fastopen, udp,
// pktinfo, which answers from the address that was asked, chatty, which answers one
// datagram with another one each millisecond, or silent, which answers none.
func (l *Lab) Server(n *Namespace, cgroup, kind, address string, port int) {
	l.t.Helper()
	args := []string{self(l.t), kind, address, strconv.Itoa(port)}
	stop := l.endless(n, "serve", l.inCgroup(cgroup, args)...)
	l.t.Cleanup(func() { stop() })
}

// serve is the role: KIND ADDRESS PORT. It goes on until standard input ends.
func serve(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: KIND ADDRESS PORT")
	}
	address, err := netip.ParseAddrPort(net.JoinHostPort(args[1], args[2]))
	if err != nil {
		return err
	}
	protocol := map[string]int{"mptcp": unix.IPPROTO_MPTCP}[args[0]]
	of := unix.SOCK_STREAM
	if args[0] == "udp" || args[0] == "pktinfo" || args[0] == "chatty" || args[0] == "silent" {
		of = unix.SOCK_DGRAM
	}
	domain := unix.AF_INET6
	if address.Addr().Is4() {
		domain = unix.AF_INET
	}
	fd, err := unix.Socket(domain, of, protocol)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, sockaddr(address)); err != nil {
		return err
	}
	answer := answerDatagrams
	switch {
	case args[0] == "pktinfo" && domain == unix.AF_INET:
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	case args[0] == "pktinfo":
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	case args[0] == "chatty":
		answer = answerForEver
	case args[0] == "silent":
		answer = answerNever
	case args[0] == "fastopen":
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 16)
	}
	if err == nil && of == unix.SOCK_STREAM {
		answer, err = answerConnections, unix.Listen(fd, 1024)
	}
	if err != nil {
		return err
	}
	go answer(fd)
	fmt.Println("begun")
	var b [1]byte
	_, _ = os.Stdin.Read(b[:])
	fmt.Println("ended")
	return nil
}

func answerConnections(fd int) {
	for {
		c, from, err := unix.Accept(fd)
		if err != nil {
			return
		}
		go func() {
			_, _ = unix.Write(c, seen(from))
			b := make([]byte, 100)
			for n := 1; n > 0; { // until the client closes
				n, _ = unix.Read(c, b)
			}
			_ = unix.Close(c)
		}()
	}
}

// answerDatagrams sends back what it got of ancillary data, too.
func answerDatagrams(fd int) {
	b, control := make([]byte, 100), make([]byte, 200)
	for {
		_, n, _, from, err := unix.Recvmsg(fd, b, control, 0)
		if err != nil {
			return
		}
		_ = unix.Sendmsg(fd, seen(from), withoutDevice(control[:n]), from, 0)
	}
}

// withoutDevice has an answer leave by any device: the address alone is given.
func withoutDevice(control []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) != 1 {
		return nil
	}
	switch m := messages[0]; {
	case m.Header.Level == unix.IPPROTO_IP && len(m.Data) >= 12:
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte(m.Data[4:8])})
	case m.Header.Level == unix.IPPROTO_IPV6 && len(m.Data) >= 16:
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: [16]byte(m.Data[:16])})
	}
	return nil
}

func seen(from unix.Sockaddr) []byte {
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		return []byte(netip.AddrFrom4(a.Addr).String())
	case *unix.SockaddrInet6:
		return []byte(netip.AddrFrom16(a.Addr).Unmap().String())
	}
	return []byte("?")
}

// answerNever reads datagrams.
func answerNever(fd int) {
	b := make([]byte, 100)
	for {
		if _, _, err := unix.Recvfrom(fd, b, 0); err != nil {
			return
		}
	}
}

// answerForEver answers whoever asks by UDP a datagram each millisecond, from the first
// question on, and reads no later one of the same address.
func answerForEver(fd int) {
	asked := map[string]bool{}
	b := make([]byte, 100)
	for {
		_, from, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return
		}
		to := string(seen(from)) + fmt.Sprint(from)
		if asked[to] {
			continue
		}
		asked[to] = true
		go func() {
			for range time.Tick(often) {
				_ = unix.Sendto(fd, []byte("answer"), 0, from) // not reached now
			}
		}()
	}
}
