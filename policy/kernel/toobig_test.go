package kernel

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"wg-multihome/policy"
)

// tooBig has a "packet too big" come in by dm0 about an echo request, as a router
// there would send it: of MTU 1300, from its peer's end.
func tooBig(t *testing.T, about policy.Packet) {
	t.Helper()
	in, err := netlink.LinkByName("dm0")
	must(t, err)
	out, err := netlink.LinkByName("peer-dm0")
	must(t, err)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	must(t, err)
	defer unix.Close(fd)
	ip, kind := tooBig6(about), uint16(unix.ETH_P_IPV6)
	if about.Dst.Is4() {
		ip, kind = tooBig4(about), unix.ETH_P_IP
	}
	frame := append(append([]byte{}, in.Attrs().HardwareAddr...), out.Attrs().HardwareAddr...)
	frame = append(binary.BigEndian.AppendUint16(frame, kind), ip...)
	for range 200 { // links that have just come lose some
		must(t, unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: out.Attrs().Index}))
		routes, err := netlink.RouteGet(about.Dst.AsSlice())
		if err == nil && len(routes) == 1 && routes[0].MTU == 1300 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("no exception for %s", about.Dst)
}

// tooBig6 is RFC 4443, 3.2.
func tooBig6(about policy.Packet) []byte {
	echo := header6(about.Src, about.Dst, 8)
	echo = append(echo, 128, 0, 0, 0, 0, 1, 0, 1)
	icmp := binary.BigEndian.AppendUint32([]byte{2, 0, 0, 0}, 1300)
	icmp = append(icmp, echo...)
	router := netip.MustParseAddr("2001:db8:1::1")
	pseudo := append(append([]byte{}, router.AsSlice()...), about.Src.AsSlice()...)
	pseudo = append(binary.BigEndian.AppendUint32(pseudo, uint32(len(icmp))), 0, 0, 0, unix.IPPROTO_ICMPV6)
	binary.BigEndian.PutUint16(icmp[2:], checksum(append(pseudo, icmp...)))
	return append(header6(router, about.Src, len(icmp)), icmp...)
}

func header6(src, dst netip.Addr, length int) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(length))
	b = append(b, unix.IPPROTO_ICMPV6, 64)
	return append(append(b, src.AsSlice()...), dst.AsSlice()...)
}

// tooBig4 is RFC 1191: unreachable, fragmentation needed.
func tooBig4(about policy.Packet) []byte {
	echo := header4(about.Src, about.Dst, 8)
	echo = append(echo, 0, 0, 0, 0, 0, 1, 0, 1) // a reply: of a request sockets alone are told (icmp_err)
	icmp := binary.BigEndian.AppendUint16([]byte{3, 4, 0, 0, 0, 0}, 1300)
	icmp = append(icmp, echo...)
	binary.BigEndian.PutUint16(icmp[2:], checksum(icmp))
	return append(header4(netip.MustParseAddr("192.0.2.1"), about.Src, len(icmp)), icmp...)
}

func header4(src, dst netip.Addr, length int) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0x45, 0}, uint16(20+length))
	b = append(b, 0, 0, 0x40, 0, 64, unix.IPPROTO_ICMP, 0, 0)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return b
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 > 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
