package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Probe is a client that makes its sockets itself, in one of Kinds.
type Probe struct {
	To     string     // an address that answers as Echo and Server do
	Port   int        // 0: where Echo answers
	Source string     // "": the kernel chooses
	Mark   uint32     // that the program sets; 0: none
	Adds   bool       // and it adds the bits to what the socket has
	Cgroup string     // below the mount; "": the test's own
	From   *Namespace // nil: the host
}

// A kind is how a client asks.
type kind struct {
	of, protocol int
	bound        bool // to any address and to a port, before all
	mapped       bool // an IPv4 address is ::ffff:A
	ask          func(*asker) error
}

var kinds = map[string]kind{
	"tcp":           {of: unix.SOCK_STREAM, ask: (*asker).connect},
	"tcp, any bind": {of: unix.SOCK_STREAM, bound: true, ask: (*asker).connect},
	"fastopen":      {of: unix.SOCK_STREAM, ask: (*asker).fastopen},
	"mptcp":         {of: unix.SOCK_STREAM, protocol: unix.IPPROTO_MPTCP, ask: (*asker).connect},
	"tcp ::ffff:":   {of: unix.SOCK_STREAM, mapped: true, ask: (*asker).connect},
	"mptcp, held":   {of: unix.SOCK_STREAM, protocol: unix.IPPROTO_MPTCP, ask: (*asker).connect},
	"mss":           {of: unix.SOCK_STREAM, ask: (*asker).connect},
	"udp":           {of: unix.SOCK_DGRAM, ask: (*asker).send},
	"udp connected": {of: unix.SOCK_DGRAM, ask: (*asker).connectAndSend},
	"udp, a port":   {of: unix.SOCK_DGRAM, bound: true, ask: (*asker).send},
	"udp pktinfo":   {of: unix.SOCK_DGRAM, ask: (*asker).sendWithInfo},
	"udp ::ffff:":   {of: unix.SOCK_DGRAM, mapped: true, ask: (*asker).send},
	"raw":           {of: unix.SOCK_RAW, protocol: unix.IPPROTO_ICMP, ask: (*asker).send},
	"ping":          {of: unix.SOCK_DGRAM, protocol: unix.IPPROTO_ICMP, ask: (*asker).send},
}

// ProbeKinds are those that tell what the other end saw, or "answered" where it
// cannot say. "mss" tells TCP_MAXSEG instead, "mptcp, held" stays for a second longer,
// and "fastopen" needs a server that reads.
func ProbeKinds(family int) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(kinds)), func(name string) bool {
		return name == "mss" || name == "mptcp, held" || name == "fastopen" || family == 6 && kinds[name].mapped
	})
}

// Probe asks once by each kind, and returns the answers by kind. Where nothing came
// back the answer begins with "error: ".
func (l *Lab) Probe(p Probe, kinds ...string) map[string]string {
	l.t.Helper()
	from := p.From
	if from == nil {
		from = l.Namespace
	}
	if p.Port == 0 {
		p.Port = 7
	}
	args := append([]string{self(l.t), p.To, strconv.Itoa(p.Port), p.Source, fmt.Sprint(p.Mark), fmt.Sprint(p.Adds), strconv.Itoa(firstPort + tries*int(l.asked.Add(int64(len(kinds)))))}, kinds...)
	answers := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(from.Try([]string{roleVariable + "=probe"}, l.inCgroup(p.Cgroup, args)...).Stdout), "\n") {
		name, answer, found := strings.Cut(line, "\t")
		if !found {
			l.t.Fatalf("probe of %s: %q", p.To, line)
		}
		answers[name] = answer
	}
	return answers
}

// probe is the role: DESTINATION PORT SOURCE MARK ADDS FIRST-PORT KIND...
func probe(args []string) error {
	if len(args) < 7 {
		return errors.New("usage: DESTINATION PORT SOURCE MARK ADDS FIRST-PORT KIND and further ones")
	}
	to, err := netip.ParseAddr(args[0])
	if err != nil {
		return err
	}
	number := map[int]uint64{}
	for _, i := range []int{1, 3, 5} {
		if number[i], err = strconv.ParseUint(args[i], 10, 32); err != nil {
			return err
		}
	}
	for i, name := range args[6:] {
		a := asker{kind: kinds[name], to: netip.AddrPortFrom(to, uint16(number[1])), source: args[2],
			mark: int(number[3]), adds: args[4] == "true", port: uint16(number[5]) + uint16(i)}
		answer, err := a.answer(name)
		if err != nil {
			answer = "error: " + err.Error()
		}
		fmt.Printf("%s\t%s\n", name, answer)
	}
	return nil
}

// asker is a socket of some kind.
type asker struct {
	kind
	fd     int
	to     netip.AddrPort
	source string
	mark   int
	adds   bool
	port   uint16 // one that nobody else has
}

func (a *asker) answer(name string) (string, error) {
	if a.ask == nil {
		return "", errors.New("no such kind")
	}
	if err := a.open(); err != nil {
		return "", err
	}
	defer unix.Close(a.fd)
	var err error
	for range tries { // a first datagram may be lost to neighbour discovery
		if err = a.ask(a); err != nil && a.of == unix.SOCK_STREAM {
			return "", err
		}
		if name == "mss" {
			mss, err := unix.GetsockoptInt(a.fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG)
			return strconv.Itoa(mss), err
		}
		var answer string
		if err == nil {
			if answer, err = a.read(); err == nil || a.of == unix.SOCK_STREAM {
				if name == "mptcp, held" {
					_, _ = a.read()
				}
				return answer, err
			}
		}
	}
	return "", err
}

// open makes the socket, with what is asked of it before it asks.
func (a *asker) open() error {
	domain, protocol := unix.AF_INET6, a.protocol
	if a.to.Addr().Is4() && !a.mapped {
		domain = unix.AF_INET
	} else if protocol == unix.IPPROTO_ICMP {
		protocol = unix.IPPROTO_ICMPV6
	}
	var err error
	if a.fd, err = unix.Socket(domain, a.of, protocol); err != nil {
		return err
	}
	wait := unix.Timeval{Sec: 1}
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(a.fd, unix.SOL_SOCKET, option, &wait); err != nil {
			return err
		}
	}
	if a.mark != 0 {
		if a.adds {
			had, err := unix.GetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_MARK)
			if err != nil {
				return err
			}
			a.mark |= had
		}
		if err := unix.SetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_MARK, a.mark); err != nil {
			return err
		}
	}
	if a.source == "" && !a.bound {
		return nil
	}
	source := netip.IPv6Unspecified()
	if domain == unix.AF_INET {
		source = netip.IPv4Unspecified()
	}
	if a.source != "" {
		if source, err = netip.ParseAddr(a.source); err != nil {
			return err
		}
	}
	port := uint16(0)
	if a.bound {
		port = a.port
	}
	return unix.Bind(a.fd, sockaddr(netip.AddrPortFrom(source, port)))
}

// peer is whom the socket asks, as its family has it.
func (a *asker) peer() unix.Sockaddr {
	to := a.to
	if a.mapped {
		to = netip.AddrPortFrom(netip.AddrFrom16(to.Addr().As16()), to.Port())
	}
	if a.protocol == unix.IPPROTO_ICMP {
		to = netip.AddrPortFrom(to.Addr(), 0)
	}
	return sockaddr(to)
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func (a *asker) connect() error { return unix.Connect(a.fd, a.peer()) }

// fastopen has the question be in the SYN: net.ipv4.tcp_fastopen is to have bit 4.
func (a *asker) fastopen() error { return unix.Sendto(a.fd, []byte("?"), unix.MSG_FASTOPEN, a.peer()) }

func (a *asker) connectAndSend() error {
	if err := a.connect(); err != nil {
		return err
	}
	_, err := unix.Write(a.fd, []byte("?"))
	return err
}

func (a *asker) send() error { return unix.Sendto(a.fd, a.question(), 0, a.peer()) }

// sendWithInfo says that any source and any device will do.
func (a *asker) sendWithInfo() error {
	control := unix.PktInfo6(&unix.Inet6Pktinfo{})
	if a.to.Addr().Is4() {
		control = unix.PktInfo4(&unix.Inet4Pktinfo{})
	}
	return unix.Sendmsg(a.fd, a.question(), control, a.peer(), 0)
}

// question is what a datagram carries: an echo request has the port as its id.
func (a *asker) question() []byte {
	if a.protocol != unix.IPPROTO_ICMP {
		return []byte("?")
	}
	request := byte(128)
	if a.to.Addr().Is4() {
		request = 8
	}
	b := binary.BigEndian.AppendUint16([]byte{request, 0, 0, 0}, a.port)
	b = binary.BigEndian.AppendUint16(b, 1)
	if a.to.Addr().Is4() && a.of == unix.SOCK_RAW { // the kernel does the others
		sum := uint32(request)<<8 + uint32(a.port) + 1
		binary.BigEndian.PutUint16(b[2:], ^uint16(sum+sum>>16))
	}
	return b
}

// read returns what came back. A raw socket hears what others are told, too.
func (a *asker) read() (string, error) {
	b := make([]byte, 200)
	for range 100 {
		n, _, err := unix.Recvfrom(a.fd, b, 0)
		if errors.Is(err, unix.EAGAIN) {
			return "", os.ErrDeadlineExceeded
		}
		if err != nil {
			return "", err
		}
		switch said := b[:n]; {
		case a.protocol != unix.IPPROTO_ICMP:
			return strings.TrimSpace(string(said)), nil
		case a.of == unix.SOCK_DGRAM:
			return "answered", nil
		default:
			reply := byte(129)
			if a.to.Addr().Is4() {
				said, reply = said[min(20, n):], 0
			}
			if len(said) >= 8 && said[0] == reply && binary.BigEndian.Uint16(said[4:]) == a.port {
				return "answered", nil
			}
		}
	}
	return "", errors.New("100 packets came, and none of them answers")
}
