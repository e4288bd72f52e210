package wg

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// socket speaks WireGuard's cross-platform configuration protocol to userspace
// devices (https://www.wireguard.com/xplatform/). It is used where wgctrl's int
// cannot hold a mark: 32-bit machines, 2³¹ and up.
type socket struct{ dir string }

// uapi is where wireguard-go and its like have their sockets.
var uapi = socket{dir: "/var/run/wireguard"}

// get returns a device.
func (s socket) get(name string) (Detail, error) { return s.ask(name, "get=1\n\n") }

// set sets a device's mark.
func (s socket) set(name string, mark uint32) error {
	_, err := s.ask(name, fmt.Sprintf("set=1\nfwmark=%d\n\n", mark))
	return err
}

// ask sends one request. Of the answer no key is kept but the peers' public
// ones, and no error quotes a line.
func (s socket) ask(name, request string) (Detail, error) {
	conn, err := net.DialTimeout("unix", s.path(name), callTime)
	if err != nil {
		return Detail{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(callTime)); err != nil {
		return Detail{}, err
	}
	if _, err := conn.Write([]byte(request)); err != nil {
		return Detail{}, err
	}
	a := uapiAnswer{Detail: Detail{Device: Device{Name: name}}}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		if key == "errno" { // the last one
			return a.Detail, errnoOf(value)
		}
		if !a.take(key, value) {
			return Detail{}, errAnswer
		}
	}
	if err := lines.Err(); err != nil {
		return Detail{}, err
	}
	return Detail{}, errAnswer
}

func errnoOf(value string) error {
	n, err := strconv.ParseInt(value, 10, 16)
	switch {
	case err != nil:
		return errAnswer
	case n != 0:
		return fmt.Errorf("the device answered: %w", syscall.Errno(max(n, -n)))
	}
	return nil
}

// uapiAnswer is an answer that is being read.
type uapiAnswer struct {
	Detail
	handshake [2]int64 // of the last peer: seconds, nanoseconds
}

// take reads a line, and reports whether it could be read. Lines about what
// nobody asks for pass.
func (a *uapiAnswer) take(key, value string) bool {
	if key == "public_key" {
		b, err := hex.DecodeString(value)
		if err != nil || len(b) != len(Key{}) {
			return false
		}
		a.Peers = append(a.Peers, Peer{Key: Key(b)})
		a.handshake = [2]int64{}
		return true
	}
	var p Peer
	if n := len(a.Peers); n > 0 {
		defer func() { a.Peers[n-1] = p }()
		p = a.Peers[n-1]
	}
	var err error
	switch key {
	case "fwmark":
		a.Mark, err = number[uint32](value, 32)
	case "listen_port":
		a.Port, err = number[uint16](value, 16)
	case "endpoint":
		p.Endpoint, err = netip.ParseAddrPort(value)
	case "persistent_keepalive_interval":
		p.Keepalive, err = number[uint16](value, 16)
	case "last_handshake_time_sec":
		a.handshake[0], err = number[int64](value, 63)
	case "last_handshake_time_nsec":
		a.handshake[1], err = number[int64](value, 63)
	case "rx_bytes":
		p.Received, err = number[int64](value, 63)
	case "tx_bytes":
		p.Sent, err = number[int64](value, 63)
	default:
		return true
	}
	p.Handshake = handshake(time.Unix(a.handshake[0], a.handshake[1]))
	return err == nil
}

// number reads an unsigned number of so many bits.
func number[T uint16 | uint32 | int64](value string, bits int) (T, error) {
	n, err := strconv.ParseUint(value, 10, bits)
	return T(n), err
}

func (s socket) path(name string) string { return filepath.Join(s.dir, name+".sock") }

// Userspace reports whether a userspace implementation has a socket for a
// device of that name. The sockets are shared by all network namespaces, and a
// killed process leaves its own: ask for names of links that are here.
func Userspace(name string) bool {
	_, err := os.Stat(uapi.path(name))
	return err == nil
}
