package lab

import (
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

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// roleVariable says what a re-executed test binary is to do instead of tests.
const roleVariable = "LAB_ROLE"

// Main plays the role that the lab has given to this process, and reports
// whether there was one. A TestMain calls it first.
func Main() bool {
	var err error
	switch os.Getenv(roleVariable) {
	case "":
		return false
	case "echo":
		err = echo(os.Args[1:])
	case "ask":
		err = ask(os.Args[1:])
	case "talk":
		err = talk(os.Args[1:])
	case "dhcpd":
		err = dhcpd(os.Args[1:])
	case "flood":
		err = flood(os.Args[1:])
	case "flow":
		err = flow(os.Args[1:])
	case "send":
		err = send(os.Args[1:])
	case "pulse":
		err = pulse(os.Args[1:])
	case "without-bpf":
		err = withoutBPF(os.Args[1:])
	case "probe":
		err = probe(os.Args[1:])
	case "serve":
		err = serve(os.Args[1:])
	case "cost":
		err = cost(os.Args[1:])
	case "chat":
		err = chat(os.Args[1:])
	case "sink":
		err = sink(os.Args[1:])
	case "leave":
		err = leave(os.Args[1:])
	case "chat-server":
		err = chatServer(os.Args[1:])
	case "forget":
		err = netlink.ConntrackTableFlush(netlink.ConntrackTable)
	case "transfer":
		err = transfer(os.Args[1:])
	case "transfer-server":
		err = transferServer(os.Args[1:])
	case "wireguard":
		err = wireguard(os.Args[1:])
	case "wireguard-go":
		err = daemon(os.Args[1:])
	default:
		err = errors.New("unknown role")
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	return true
}

// echo answers on ADDRESS... with the address that it sees, until it is ended.
func echo(args []string) error {
	failed := make(chan error)
	for _, addr := range args {
		udp, err := net.ListenPacket("udp", net.JoinHostPort(addr, port))
		if err != nil {
			return err
		}
		tcp, err := net.Listen("tcp", net.JoinHostPort(addr, port))
		if err != nil {
			return err
		}
		go func() {
			b := make([]byte, 100)
			for {
				_, from, err := udp.ReadFrom(b)
				if err != nil {
					failed <- err
					return
				}
				_, _ = udp.WriteTo([]byte(host(from)), from)
			}
		}()
		go func() {
			for {
				c, err := tcp.Accept()
				if err != nil {
					failed <- err
					return
				}
				_, _ = io.WriteString(c, host(c.RemoteAddr()))
				_ = c.Close()
			}
		}()
	}
	return <-failed
}

func host(a net.Addr) string {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	return p.Addr().Unmap().String()
}

// dialer makes sockets with a mark, bound to a source, and to a port unless
// that is 0.
func dialer(network, source string, port, mark int) (net.Dialer, error) {
	d := net.Dialer{Timeout: time.Second, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) {
			if mark != 0 {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark)
			}
		}); e != nil {
			return e
		}
		return err
	}}
	if source == "" && port == 0 {
		return d, nil
	}
	ip := net.ParseIP(source)
	if ip == nil && source != "" {
		return d, fmt.Errorf("source %q", source)
	}
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: ip, Port: port}
	} else {
		d.LocalAddr = &net.TCPAddr{IP: ip, Port: port}
	}
	return d, nil
}

// ask asks far once: NETWORK DESTINATION SOURCE MARK PORT, where 0 is a port of
// the kernel's choice. It prints what far saw, or an error.
func ask(args []string) error {
	if len(args) != 5 {
		return errors.New("usage: NETWORK DESTINATION SOURCE MARK PORT")
	}
	mark, err := strconv.ParseUint(args[3], 0, 32)
	if err != nil {
		return err
	}
	first, err := strconv.Atoi(args[4])
	if err != nil {
		return err
	}
	for try := range tries { // a first datagram may be lost to neighbour discovery
		from := first
		if first != 0 {
			from += try
		}
		var d net.Dialer
		if d, err = dialer(args[0], args[2], from, int(mark)); err != nil {
			return err
		}
		var answer string
		if answer, err = once(d, args[0], args[1]); err == nil {
			fmt.Print(answer)
			return nil
		}
	}
	return err
}

func once(d net.Dialer, network, destination string) (string, error) {
	if network == "icmp" {
		return ping(destination)
	}
	c, err := d.Dial(network, net.JoinHostPort(destination, port))
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	if network == "udp" {
		if _, err := c.Write([]byte("?")); err != nil {
			return "", err
		}
	}
	b := make([]byte, 100)
	n, err := c.Read(b)
	return strings.TrimSpace(string(b[:n])), err
}

// flood sends datagrams with a mark from unbound sockets to far, as fast as it
// can, until its standard input ends; then it prints how many left.
func flood(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: DESTINATION MARK")
	}
	mark, err := strconv.ParseUint(args[1], 0, 32)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	d, err := dialer("udp", "", 0, int(mark))
	if err != nil {
		return err
	}
	fmt.Println("begun")
	for sent := 0; ; {
		select {
		case <-ended:
			fmt.Println(sent)
			return nil
		default:
		}
		c, err := d.Dial("udp", net.JoinHostPort(args[0], "9"))
		if err != nil {
			continue // refused: unreachable
		}
		for range 20 {
			if _, err := c.Write([]byte("x")); err == nil {
				sent++
			}
		}
		_ = c.Close()
	}
}
