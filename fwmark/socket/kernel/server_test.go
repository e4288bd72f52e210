package kernel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/socket"
)

// The kinds of socket.
var kinds = map[string][3]int{
	"tcp4":   {unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP},
	"tcp6":   {unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_TCP},
	"udp4":   {unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP},
	"udp6":   {unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP},
	"raw4":   {unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP},
	"raw6":   {unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6},
	"ping4":  {unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP},
	"ping6":  {unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6},
	"mptcp4": {unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP},
	"mptcp6": {unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP},

	"unix":    {unix.AF_UNIX, unix.SOCK_STREAM, 0},
	"netlink": {unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE},
	"packet":  {unix.AF_PACKET, unix.SOCK_RAW, 0},
}

// serve does what it is told, a line each, until there is no more.
func serve(in io.Reader, out io.Writer) {
	s := server{sockets: map[string]int{}, apart: map[string]*apart{}}
	lines := bufio.NewScanner(in)
	if s.answer(lines, out) {
		go func() {
			awaitLeader()
			fmt.Fprintln(out, "ok")
			s.answer(lines, out)
			os.Exit(0)
		}()
		endThread()
	}
}

// answer returns true where the thread that it runs in is to end: another one goes on.
func (s server) answer(lines *bufio.Scanner, out io.Writer) (leave bool) {
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if words[0] == "leave" {
			return true
		}
		if text, err := s.do(words); err != nil {
			fmt.Fprintln(out, "error", err)
		} else {
			fmt.Fprintln(out, "ok", text)
		}
	}
	return false
}

type server struct {
	sockets map[string]int
	apart   map[string]*apart
}

const answerTime = 10 // seconds

func (s server) do(words []string) (string, error) {
	if len(words) == 1 {
		words = append(words, "")
	}
	fd, arg := s.sockets[words[1]], ""
	if len(words) > 2 {
		arg = words[2]
	}
	switch words[0] {
	case "socket":
		k := kinds[arg]
		fd, err := unix.Socket(k[0], k[1]|unix.SOCK_CLOEXEC, k[2])
		if err != nil {
			return "", err
		}
		s.sockets[words[1]] = fd
		return "", unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: answerTime})
	case "apart": // a thread with a table of files of its own
		var err error
		s.apart[words[1]], err = startApart()
		return "", err
	case "threads": // so many that share theirs
		return "", startThreads(words[1])
	case "in": // such a thread does the rest
		return s.apart[words[1]].do(s, words[2:])
	case "number": // that of its file
		return strconv.Itoa(fd), nil
	case "nonblock":
		return "", unix.SetNonblock(fd, true)
	case "mark":
		m, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK)
		return fmt.Sprintf("%#x", uint32(m)), err
	case "set":
		m, err := strconv.ParseUint(arg, 0, 32)
		if err != nil {
			return "", err
		}
		return "", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(int32(m)))
	case "fill": // sends until the peer's window is shut, and what may wait for that waits
		for n := 0; n < 1<<16; n++ {
			if err := unix.Sendto(fd, make([]byte, 4096), unix.MSG_DONTWAIT, nil); err != nil {
				if err == unix.EAGAIN {
					return "", nil
				}
				return "", err
			}
		}
		return "", unix.ENOBUFS
	case "shutdown":
		return "", unix.Shutdown(fd, unix.SHUT_WR)
	case "keepalive":
		return "", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	case "listen":
		return "", unix.Listen(fd, 16)
	case "accept":
		new, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		s.sockets[arg] = new
		return "", err
	case "local":
		a, err := unix.Getsockname(fd)
		return addrPort(a).String(), err
	case "close":
		delete(s.sockets, words[1])
		return "", unix.Close(fd)
	case "bind", "connect", "send", "receive":
		return s.exchange(words[0], fd, arg)
	case "pid":
		return strconv.Itoa(os.Getpid()), nil
	case "child": // one that is made by this process does the same once, with sockets of its own
		cmd := exec.Command("/proc/self/exe")
		cmd.Env, cmd.Stdin = os.Environ(), strings.NewReader(strings.ReplaceAll(strings.Join(words[1:], " "), ";", "\n"))
		text, err := cmd.Output()
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		return strings.TrimPrefix(lines[len(lines)-1], "ok "), err
	case "probe":
		return fmt.Sprint(probe()), nil
	case "filter":
		return "", filterBPF(words[1])
	case "without-kcmp":
		return "", filterCall(unix.SYS_KCMP, unix.ENOSYS)
	case "read": // what stands on a cgroup: the mount, and the path below it
		c, err := Open(words[1])
		if err != nil {
			return "", err
		}
		defer c.Close()
		state, err := c.Read([]string{arg}, false)
		return fmt.Sprint(state.Refused), err
	case "give": // a mark to the sockets of a cgroup: the mount, and the path below it
		c, err := Open(words[1])
		if err != nil {
			return "", err
		}
		defer c.Close()
		var r Report
		err = c.Give(context.Background(), socket.Remark{Cgroup: arg, To: one}, &r)
		return fmt.Sprint(r.Seen, " ", r.Changed, " ", r.Refused), err
	case "end": // what its programs have closed
		what, err := EndClosed(context.Background(), one)
		return fmt.Sprint(what), err
	case "servers":
		return servers(words[1], arg)
	case "knock":
		return knock(words[1])
	case "burst":
		return burst(words[1], arg, words[3])
	}
	return "", fmt.Errorf("unknown word %q", words[0])
}

func (s server) exchange(word string, fd int, arg string) (string, error) {
	if word == "receive" {
		b := make([]byte, 1500)
		n, from, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return "", err
		}
		if from == nil {
			return string(b[:n]), nil
		}
		return addrPort(from).String(), nil
	}
	to, err := netip.ParseAddrPort(arg)
	if err != nil {
		return "", err
	}
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return "", err
	}
	addr := sockaddr(to, domain)
	switch word {
	case "bind":
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return "", err
		}
		return "", unix.Bind(fd, addr)
	case "connect":
		return "", unix.Connect(fd, addr)
	}
	return "", unix.Sendto(fd, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}, 0, addr) // which is an echo request, too
}

func sockaddr(a netip.AddrPort, domain int) unix.Sockaddr {
	if domain == unix.AF_INET {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().Unmap().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// servers listens for a while, again and again on one port, and returns how many
// connections it took and how many of them had a mark.
func servers(addr, times string) (string, error) {
	n, err := strconv.Atoi(times)
	if err != nil {
		return "", err
	}
	taken, marked := 0, 0
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err == nil {
			err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.Bind(fd, sockaddr(netip.MustParseAddrPort(addr), unix.AF_INET)), unix.Listen(fd, 64))
		}
		if err != nil {
			return "", err
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5) // ms
		for {
			conn, _, err := unix.Accept4(fd, 0)
			if err != nil {
				break
			}
			m, err := unix.GetsockoptInt(conn, unix.SOL_SOCKET, unix.SO_MARK)
			taken++
			if m != 0 || err != nil {
				marked++
			}
			_ = unix.Close(conn)
		}
		_ = unix.Close(fd)
	}
	return fmt.Sprint(taken, " ", marked), nil
}

// knock connects again and again, until nothing has listened for a while.
func knock(addr string) (string, error) {
	for last := time.Now(); time.Since(last) < time.Second; {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return "", err
		}
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // no TIME_WAIT: ports would run out
		if err := unix.Connect(fd, sockaddr(netip.MustParseAddrPort(addr), unix.AF_INET)); err == nil {
			last = time.Now()
		}
		_ = unix.Close(fd)
	}
	return "", nil
}

// burst does the same many times, and returns what it takes of the processor: ns for
// each.
func burst(what, times, to string) (string, error) {
	n, err := strconv.Atoi(times)
	if err != nil {
		return "", err
	}
	addr, k := sockaddr(netip.MustParseAddrPort(to), unix.AF_INET), kinds["udp4"]
	fd, err := unix.Socket(k[0], k[1], k[2])
	if err != nil {
		return "", err
	}
	begun := cpu()
	for range n {
		if what == "new" {
			_ = unix.Close(fd)
			if fd, err = unix.Socket(k[0], k[1], k[2]); err != nil {
				return "", err
			}
		}
		if err := unix.Sendto(fd, []byte("x"), 0, addr); err != nil {
			return "", err
		}
	}
	return strconv.FormatInt((cpu()-begun)/int64(n), 10), unix.Close(fd)
}

func cpu() int64 {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // it has no way to fail
	return u.Utime.Nano() + u.Stime.Nano()
}

// filterBPF has bpf(2) fail in this process from now on, as in a container or in a
// unit with SystemCallFilter=.
func filterBPF(errno string) error {
	code := map[string]unix.Errno{"ENOSYS": unix.ENOSYS, "EPERM": unix.EPERM, "EINVAL": unix.EINVAL}[errno]
	return filterCall(unix.SYS_BPF, code)
}
