package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Script is what a DHCP server of the lab does from now on.
type Script struct {
	Address string   // the one that it leases
	Router  string   // option 3; "": none
	Routes  []string // option 121, destination and router in turn
	Seconds uint32   // of a lease, 51; the client renews after a third, 58, and rebinds after two, 59

	Silent bool // it answers nothing
	Move   bool // whoever asks for another address gets this one all the same, and no NAK
}

// Server is a scripted DHCP server at an ISP: dnsmasq can be told neither to be
// silent nor to change its mind while it runs.
type Server struct {
	l   *Lab
	dir string
}

// Scripted starts one. It answers once Does was called.
func (l *Lab) Scripted(isp *Namespace, router string) *Server {
	l.t.Helper()
	s := &Server{l: l, dir: l.t.TempDir()}
	s.Does(Script{Silent: true})
	isp.Start([]string{roleVariable + "=dhcpd"}, self(l.t), s.dir, router)
	Until(l.t, "the DHCP server listens", func() bool { return strings.Contains(isp.Run("ss", "-Hlnu"), ":67 ") })
	return s
}

// Does changes what the server does.
func (s *Server) Does(script Script) {
	s.l.t.Helper()
	text, err := json.Marshal(script)
	fatal(s.l.t, err)
	fresh := filepath.Join(s.dir, "new")
	fatal(s.l.t, os.WriteFile(fresh, text, 0o600))
	fatal(s.l.t, os.Rename(fresh, filepath.Join(s.dir, "script")))
}

// Heard returns what clients have sent and what was answered, a line each: the
// request, the client's own address if it has said one, and the answer.
func (s *Server) Heard() string {
	s.l.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "heard"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.l.t.Fatal(err)
	}
	return string(text)
}

// What RFC 2131 and 2132 number.
const (
	bootRequest, bootReply = 1, 2
	bootFixed              = 240 // bytes in front of the options, the cookie among them

	optMask, optRouter, optAsked, optSeconds, optType, optServer, optRenew, optRebind, optRoutes, optEnd = 1, 3, 50, 51, 53, 54, 58, 59, 121, 255

	dhcpDiscover, dhcpOffer, dhcpRequest, dhcpAck, dhcpNak = 1, 2, 3, 5, 6
)

var dhcpNames = map[byte]string{0: "nothing", 1: "DISCOVER", 2: "OFFER", 3: "REQUEST", 4: "DECLINE", 5: "ACK", 6: "NAK", 7: "RELEASE", 8: "INFORM"}

// dhcpd is the role: FOLDER ADDRESS. It serves on the device "home" until it is
// ended, as the script in the folder says.
func dhcpd(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: FOLDER ADDRESS")
	}
	own, err := netip.ParseAddr(args[1])
	if err != nil {
		return err
	}
	listen := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1), unix.BindToDevice(int(fd), "home"))
		}), err)
	}}
	conn, err := listen.ListenPacket(context.Background(), "udp4", ":67")
	if err != nil {
		return err
	}
	heard, err := os.Create(filepath.Join(args[0], "heard"))
	if err != nil {
		return err
	}
	b := make([]byte, 1500)
	for {
		n, _, err := conn.ReadFrom(b)
		if err != nil {
			return err
		}
		r, ok := readBoot(b[:n])
		if !ok {
			continue
		}
		var script Script
		text, err := os.ReadFile(filepath.Join(args[0], "script"))
		if err == nil {
			err = json.Unmarshal(text, &script)
		}
		if err != nil {
			return err
		}
		kind, answer, err := script.answer(r, own)
		if err != nil {
			return err
		}
		fmt.Fprintln(heard, dhcpNames[r.kind], r.client, dhcpNames[kind])
		if answer == nil {
			continue
		}
		to := netip.AddrFrom4([4]byte{255, 255, 255, 255})
		if !r.client.IsUnspecified() {
			to = r.client
		}
		// A client that has lost its address meanwhile is no failure.
		_, _ = conn.WriteTo(answer, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 68)))
	}
}

// boot is a client's message.
type boot struct {
	fixed         []byte // up to the options
	kind          byte
	client, asked netip.Addr // ciaddr, and the address that it wants
	server        netip.Addr // the one that it has chosen
}

func readBoot(b []byte) (r boot, ok bool) {
	if len(b) < bootFixed || b[0] != bootRequest {
		return r, false
	}
	r = boot{fixed: bytes.Clone(b[:bootFixed]), client: netip.AddrFrom4([4]byte(b[12:16]))}
	r.asked = r.client
	for o := b[bootFixed:]; len(o) > 2 && o[0] != optEnd; {
		if o[0] == 0 { // a pad
			o = o[1:]
			continue
		}
		end := 2 + int(o[1])
		if end > len(o) {
			return r, false
		}
		switch value := o[2:end]; {
		case o[0] == optType && len(value) == 1:
			r.kind = value[0]
		case o[0] == optAsked && len(value) == 4:
			r.asked = netip.AddrFrom4([4]byte(value))
		case o[0] == optServer && len(value) == 4:
			r.server = netip.AddrFrom4([4]byte(value))
		}
		o = o[end:]
	}
	return r, true
}

// answer returns the answer to a request, and its kind; nil: none.
func (s Script) answer(r boot, own netip.Addr) (kind byte, b []byte, err error) {
	if s.Silent || r.server.IsValid() && r.server != own {
		return 0, nil, nil
	}
	leased, err := netip.ParseAddr(s.Address)
	if err != nil {
		return 0, nil, err
	}
	switch {
	case r.kind == dhcpDiscover:
		kind = dhcpOffer
	case r.kind == dhcpRequest && (r.asked == leased || s.Move):
		kind = dhcpAck
	case r.kind == dhcpRequest:
		kind = dhcpNak
	default:
		return 0, nil, nil
	}
	b = bytes.Clone(r.fixed)
	b[0] = bootReply
	option := func(number byte, value ...byte) { b = append(append(b, number, byte(len(value))), value...) }
	option(optType, kind)
	option(optServer, own.AsSlice()...)
	if kind != dhcpNak {
		copy(b[16:20], leased.AsSlice()) // yiaddr
		for number, seconds := range map[byte]uint32{optSeconds: s.Seconds, optRenew: s.Seconds / 3, optRebind: s.Seconds * 2 / 3} {
			option(number, binary.BigEndian.AppendUint32(nil, seconds)...)
		}
		option(optMask, 255, 255, 255, 0)
		if s.Router != "" {
			router, err := netip.ParseAddr(s.Router)
			if err != nil {
				return 0, nil, err
			}
			option(optRouter, router.AsSlice()...)
		}
		if routes, err := s.routes(); err != nil {
			return 0, nil, err
		} else if len(routes) > 0 {
			option(optRoutes, routes...)
		}
	}
	return kind, append(b, optEnd), nil
}

// routes returns the value of option 121, RFC 3442.
func (s Script) routes() ([]byte, error) {
	var b []byte
	for i := 0; i+1 < len(s.Routes); i += 2 {
		dst, err := netip.ParsePrefix(s.Routes[i])
		if err != nil {
			return nil, err
		}
		router, err := netip.ParseAddr(s.Routes[i+1])
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, byte(dst.Bits())), dst.Addr().AsSlice()[:(dst.Bits()+7)/8]...), router.AsSlice()...)
	}
	return b, nil
}
