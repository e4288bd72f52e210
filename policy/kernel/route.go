package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// encodeRoute returns the header and attributes of a route. index is that of
// its device, 0 for none.
func encodeRoute(r policy.Route, index uint32) (*nl.RtMsg, []*nl.RtAttr) {
	h := &nl.RtMsg{RtMsg: unix.RtMsg{
		Family: familyNumber(r.Family), Dst_len: uint8(r.Dst.Bits()), Type: uint8(r.Type), Protocol: r.Protocol,
		Table: unix.RT_TABLE_UNSPEC, // RTA_TABLE says it
	}}
	if r.OnLink {
		h.Flags = unix.RTNH_F_ONLINK
	}
	attrs := []*nl.RtAttr{nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(r.Table))}
	add := func(kind int, data []byte) { attrs = append(attrs, nl.NewRtAttr(kind, data)) }
	if r.Dst.Bits() > 0 {
		add(unix.RTA_DST, r.Dst.Addr().AsSlice())
	}
	switch {
	case !r.Gateway.IsValid() && r.Type != policy.Unicast:
	case !r.Gateway.IsValid():
		// The kernel refuses an IPv4 default without a gateway in any wider
		// scope (fib_check_nh_nongw); to IPv6 scope means nothing.
		h.Scope = unix.RT_SCOPE_LINK
	case fwmark.FamilyOf(r.Gateway) == r.Family:
		add(unix.RTA_GATEWAY, r.Gateway.AsSlice())
	default:
		via := binary.NativeEndian.AppendUint16(nil, uint16(familyNumber(fwmark.FamilyOf(r.Gateway))))
		add(unix.RTA_VIA, append(via, r.Gateway.AsSlice()...))
	}
	if r.Src.IsValid() {
		add(unix.RTA_PREFSRC, r.Src.AsSlice())
	}
	if r.Metric != 0 {
		add(unix.RTA_PRIORITY, nl.Uint32Attr(r.Metric))
	}
	if index != 0 {
		add(unix.RTA_OIF, nl.Uint32Attr(index))
	}
	return h, attrs
}

// decodeRoute reads a message of RTM_NEWROUTE, from its header on: one Route
// for each nexthop. device names an index. What it does not know makes the
// route Opaque; an error means that it is no route at all.
func decodeRoute(m []byte, device func(uint32) string) ([]policy.Route, error) {
	if len(m) < headerSize {
		return nil, errShort
	}
	family, err := familyOfNumber(m[0])
	if err != nil {
		return nil, err
	}
	attrs, err := attributes(m[headerSize:])
	if err != nil {
		return nil, fmt.Errorf("attributes of a route: %w", err)
	}
	flags := binary.NativeEndian.Uint32(m[8:])
	d := routeDecoder{device: device, dstLen: int(m[1]), route: policy.Route{
		Family: family, Table: uint32(m[4]), Protocol: m[5], Type: policy.RouteType(m[7]),
		Dst:    netip.PrefixFrom(family.Unspecified(), 0),
		OnLink: flags&unix.RTNH_F_ONLINK != 0,
		Opaque: m[2] != 0 || m[3] != 0, // source-specific, or by type of service
	}}
	for _, a := range attrs {
		if !d.read(a) {
			d.route.Opaque = true
		}
	}
	if d.dstLen > 0 && d.route.Dst.Bits() != d.dstLen {
		return nil, fmt.Errorf("a route to a prefix of %d bits has no such address", d.dstLen)
	}
	return d.finish(), nil
}

type routeDecoder struct {
	device func(uint32) string
	route  policy.Route
	dstLen int
	hops   []policy.Route // of a multipath route: Gateway, Device and OnLink of each
}

func (d *routeDecoder) read(a attribute) bool {
	number, isNumber := a.number()
	switch a.kind {
	case unix.RTA_DST:
		return prefix(&d.route.Dst, d.route.Family, a.value, d.dstLen)
	case unix.RTA_TABLE:
		d.route.Table = number
		return isNumber
	case unix.RTA_PRIORITY:
		d.route.Metric = number
		return isNumber
	case unix.RTA_OIF:
		d.route.Device = d.device(number)
		return isNumber
	case unix.RTA_PREFSRC:
		src, ok := address(d.route.Family, a.value)
		d.route.Src = src
		return ok
	case unix.RTA_GATEWAY, unix.RTA_VIA:
		return gateway(&d.route, a)
	case unix.RTA_MULTIPATH:
		return d.readHops(a.value)
	case unix.RTA_CACHEINFO, unix.RTA_PAD:
	case unix.RTA_PREF: // RFC 4191; 0 is medium, the default
		return len(a.value) == 1 && a.value[0] == 0
	default:
		return false
	}
	return true
}

// gateway reads RTA_GATEWAY, or RTA_VIA with its own address family.
func gateway(r *policy.Route, a attribute) bool {
	family, value := r.Family, a.value
	if a.kind == unix.RTA_VIA {
		if len(value) < 2 {
			return false
		}
		var err error
		if family, err = familyOfNumber(uint8(binary.NativeEndian.Uint16(value))); err != nil {
			return false
		}
		value = value[2:]
	}
	gw, ok := address(family, value)
	if ok {
		r.Gateway = gw
	}
	return ok
}

// sizeofNexthop is that of struct rtnexthop, in bytes: length, flags, hops,
// index.
const sizeofNexthop = unix.SizeofRtNexthop

func (d *routeDecoder) readHops(b []byte) bool {
	for len(b) >= sizeofNexthop {
		length := int(binary.NativeEndian.Uint16(b))
		if length < sizeofNexthop || length > len(b) {
			return false
		}
		hop := policy.Route{Family: d.route.Family, Device: d.device(binary.NativeEndian.Uint32(b[4:])), OnLink: b[2]&unix.RTNH_F_ONLINK != 0}
		attrs, err := attributes(b[sizeofNexthop:length])
		if err != nil {
			return false
		}
		for _, a := range attrs {
			if a.kind == unix.RTA_GATEWAY || a.kind == unix.RTA_VIA {
				if !gateway(&hop, a) {
					return false
				}
			}
		}
		d.hops = append(d.hops, hop)
		b = b[min(len(b), aligned(length)):]
	}
	return len(b) == 0
}

func (d *routeDecoder) finish() []policy.Route {
	if len(d.hops) == 0 {
		return []policy.Route{d.route}
	}
	routes := make([]policy.Route, len(d.hops))
	for i, hop := range d.hops {
		routes[i] = d.route
		routes[i].Hop, routes[i].Gateway, routes[i].Device, routes[i].OnLink = i+1, hop.Gateway, hop.Device, hop.OnLink
	}
	return routes
}
