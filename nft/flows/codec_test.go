package flows

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// diag is struct inet_diag_msg as the kernel sends it. Both addresses are 4
// bytes, or 16.
func diag(state uint8, local, remote string, inode uint32) []byte {
	l, r := netip.MustParseAddrPort(local), netip.MustParseAddrPort(remote)
	b := make([]byte, socketSize)
	b[0], b[1] = unix.AF_INET, state
	if !l.Addr().Is4() {
		b[0] = unix.AF_INET6
	}
	binary.BigEndian.PutUint16(b[4:], l.Port())
	binary.BigEndian.PutUint16(b[6:], r.Port())
	copy(b[8:24], l.Addr().AsSlice())
	copy(b[24:40], r.Addr().AsSlice())
	binary.NativeEndian.PutUint32(b[68:], inode)
	return b
}

// TestFlowOf has what becomes of a socket. The host listens on 22.
func TestFlowOf(t *testing.T) {
	const none = "nothing"
	for _, c := range []struct {
		state         uint8
		local, remote string
		inode         uint32
		want          string
	}{
		{established, "192.0.2.1:4000", "198.51.100.1:80", 7, "192.0.2.1:4000 > 198.51.100.1:80 state 3 status 0xe for 99 s"},
		{established, "192.0.2.1:22", "198.51.100.1:80", 7, "198.51.100.1:80 > 192.0.2.1:22 state 3 status 0xe for 99 s"},
		{established, "192.0.2.1:22", "198.51.100.1:80", 0, "198.51.100.1:80 > 192.0.2.1:22 state 3 status 0xe for 99 s"}, // not yet accepted
		{established, "[::ffff:192.0.2.1]:1", "[::ffff:198.51.100.1]:2", 7, "192.0.2.1:1 > 198.51.100.1:2 state 3 status 0xe for 99 s"},
		{established, "[fe80::1]:1", "[fe80::2]:2", 7, "[fe80::1]:1 > [fe80::2]:2 state 3 status 0xe for 99 s"},
		{established, "[::ffff:192.0.2.1]:1", "[fe80::2]:2", 7, none},
		{2, "192.0.2.1:1", "198.51.100.1:2", 7, none}, // SYN_SENT
		{synRecv, "192.0.2.1:1", "198.51.100.1:2", 0, "198.51.100.1:2 > 192.0.2.1:1 state 2 status 0xa for 60 s"},
		{finWait1, "192.0.2.1:1", "198.51.100.1:2", 7, "192.0.2.1:1 > 198.51.100.1:2 state 3 status 0xe for 99 s"},
		{finWait1, "192.0.2.1:1", "198.51.100.1:2", 0, "192.0.2.1:1 > 198.51.100.1:2 state 4 status 0xe for 120 s"},
		{finWait2, "192.0.2.1:1", "198.51.100.1:2", 7, "192.0.2.1:1 > 198.51.100.1:2 state 3 status 0xe for 99 s"},
		{finWait2, "192.0.2.1:1", "198.51.100.1:2", 0, none},
		{6, "192.0.2.1:1", "198.51.100.1:2", 0, none}, // TIME_WAIT
		{7, "192.0.2.1:1", "198.51.100.1:2", 0, none}, // CLOSE
		{closeWait, "192.0.2.1:1", "198.51.100.1:2", 0, "192.0.2.1:1 > 198.51.100.1:2 state 3 status 0xe for 99 s"},
		{lastAck, "192.0.2.1:1", "198.51.100.1:2", 0, "192.0.2.1:1 > 198.51.100.1:2 state 4 status 0xe for 120 s"},
		{listen, "0.0.0.0:22", "0.0.0.0:0", 7, none},
		{closing, "192.0.2.1:1", "198.51.100.1:2", 7, "192.0.2.1:1 > 198.51.100.1:2 state 4 status 0xe for 120 s"},
	} {
		s, err := decodeSocket(diag(c.state, c.local, c.remote, c.inode))
		must(t, err)
		got := none
		if f, ok := flowOf(s, ports{22: true}, 99); ok {
			got = fmt.Sprintf("%s state %d status %#x for %d s", f, f.state, f.status, f.timeout)
		}
		if got != c.want {
			t.Errorf("state %d, %s > %s, inode %d: %s, want %s", c.state, c.local, c.remote, c.inode, got, c.want)
		}
	}
}

// decodeFlow reads what encodeFlow wrote, and refuses all else.
func decodeFlow(b []byte) (flow, error) {
	var f flow
	var back [2]netip.AddrPort
	var liberal int
	d, err := netlink.NewAttributeDecoder(b[4:])
	if err != nil {
		return f, err
	}
	d.ByteOrder = binary.BigEndian
	strange := fmt.Errorf("%v", b)
	for d.Next() {
		switch d.Type() {
		case nl.CTA_TUPLE_ORIG:
			d.Nested(decodeTuple(&f.from, &f.to))
		case nl.CTA_TUPLE_REPLY:
			d.Nested(decodeTuple(&back[0], &back[1]))
		case nl.CTA_STATUS:
			f.status = d.Uint32()
		case nl.CTA_TIMEOUT:
			f.timeout = d.Uint32()
		case nl.CTA_PROTOINFO:
			d.Nested(func(d *netlink.AttributeDecoder) error {
				for d.Next() {
					d.Nested(func(d *netlink.AttributeDecoder) error {
						for d.Next() {
							switch d.Type() {
							case nl.CTA_PROTOINFO_TCP_STATE:
								f.state = d.Uint8()
							case nl.CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, nl.CTA_PROTOINFO_TCP_FLAGS_REPLY:
								if string(d.Bytes()) == "\x08\x08" {
									liberal++
								}
							default:
								return strange
							}
						}
						return nil
					})
				}
				return nil
			})
		default:
			return f, strange
		}
	}
	if d.Err() != nil || back != [2]netip.AddrPort{f.to, f.from} || liberal != 2 {
		return f, errors.Join(d.Err(), strange)
	}
	return f, nil
}

func decodeTuple(src, dst *netip.AddrPort) func(*netlink.AttributeDecoder) error {
	return func(d *netlink.AttributeDecoder) error {
		var addrs [2]netip.Addr
		var port [2]uint16
		for d.Next() {
			outer := d.Type()
			d.Nested(func(d *netlink.AttributeDecoder) error {
				for d.Next() {
					switch kind := int(d.Type()); {
					case outer == nl.CTA_TUPLE_IP:
						addr, _ := netip.AddrFromSlice(d.Bytes())
						if addr.Is4() != (kind <= nl.CTA_IP_V4_DST) {
							return fmt.Errorf("%s is no attribute %d", addr, kind)
						}
						addrs[(kind-1)%2] = addr
					case kind == nl.CTA_PROTO_NUM:
						if d.Uint8() != unix.IPPROTO_TCP {
							return errors.New("not TCP")
						}
					default:
						port[kind-nl.CTA_PROTO_SRC_PORT] = d.Uint16()
					}
				}
				return nil
			})
		}
		*src, *dst = netip.AddrPortFrom(addrs[0], port[0]), netip.AddrPortFrom(addrs[1], port[1])
		return nil
	}
}

func TestFlowsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{4, 16}).Draw(t, "size")
		end := func(name string) netip.AddrPort {
			addr, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, name))
			return netip.AddrPortFrom(addr, rapid.Uint16().Draw(t, name+" port"))
		}
		f := flow{from: end("from"), to: end("to"), state: rapid.Byte().Draw(t, "state"), status: rapid.Uint32().Draw(t, "status"), timeout: rapid.Uint32().Draw(t, "timeout")}
		b, err := encodeFlow(f)
		if err != nil {
			t.Fatal(err)
		}
		if family := map[int]byte{4: unix.AF_INET, 16: unix.AF_INET6}[size]; b[0] != family || b[1] != 0 {
			t.Fatalf("header %v", b[:4])
		}
		if got, err := decodeFlow(b); err != nil || got != f {
			t.Fatalf("%+v, %v\nwant %+v", got, err, f)
		}
	})
}

func FuzzSocket(f *testing.F) {
	f.Add(diag(established, "192.0.2.1:22", "198.51.100.1:80", 7))
	f.Add(diag(synRecv, "[2001:db8::1]:22", "[2001:db8::2]:80", 0))
	f.Add(diag(closing, "[::ffff:192.0.2.1]:22", "[::ffff:192.0.2.2]:80", 0)[:71])
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeSocket(b)
		if err != nil {
			return
		}
		for _, a := range []netip.Addr{s.local.Addr(), s.remote.Addr()} {
			if !a.IsValid() || a.Is4In6() {
				t.Errorf("%+v", s)
			}
		}
		flow, ok := flowOf(s, ports{22: true}, idleDefault)
		if !ok {
			return
		}
		m, err := encodeFlow(flow)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeFlow(m); err != nil || got != flow {
			t.Errorf("%+v, %v\nwant %+v", got, err, flow)
		}
	})
}

func FuzzAnswers(f *testing.F) {
	b := make([]byte, 36)
	binary.NativeEndian.PutUint32(b, 36)
	binary.NativeEndian.PutUint16(b[4:], unix.NLMSG_ERROR)
	binary.NativeEndian.PutUint32(b[8:], 3)
	binary.NativeEndian.PutUint32(b[16:], ^uint32(unix.EEXIST)+1)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		n := len(b)
		list, err := messages(append(b, 0, 0, 0), n)
		if err != nil {
			return
		}
		outcomes := make([]error, 3)
		last, err := answers(list, outcomes)
		if last && err != nil || n < 20 && (last || outcomes[0] != nil) {
			t.Errorf("%t, %v, %v", last, err, outcomes)
		}
	})
}
