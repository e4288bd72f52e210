package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/nlsock"
	"wg-multihome/policy"
)

// routeScope is where struct rtmsg has its scope.
const routeScope = 6

// attributeNexthop is RTA_NH_ID, linux/rtnetlink.h, which x/sys/unix has not.
const attributeNexthop = 30

// appendRoute appends the header and attributes of a route. index is that of
// its device, 0 for none.
func appendRoute(b []byte, r *policy.Route, index uint32) []byte {
	var scope byte
	if !r.Gateway.IsValid() && r.Type == policy.Unicast {
		// The kernel refuses an IPv4 default without a gateway in any wider
		// scope (fib_check_nh_nongw); to IPv6 scope means nothing.
		scope = unix.RT_SCOPE_LINK
	}
	var flags uint32
	if r.OnLink {
		flags = unix.RTNH_F_ONLINK
	}
	// RTA_TABLE says which table it is.
	b = append(b, familyNumber(r.Family), byte(r.Dst.Bits()), 0, 0, unix.RT_TABLE_UNSPEC, r.Protocol, scope, byte(r.Type))
	b = binary.NativeEndian.AppendUint32(b, flags)
	b = appendNumber(b, unix.RTA_TABLE, r.Table)
	if r.Dst.Bits() > 0 {
		b = appendAddress(b, unix.RTA_DST, r.Dst.Addr())
	}
	switch {
	case !r.Gateway.IsValid():
	case fwmark.FamilyOf(r.Gateway) == r.Family:
		b = appendAddress(b, unix.RTA_GATEWAY, r.Gateway)
	default:
		via := binary.NativeEndian.AppendUint16(nil, uint16(familyNumber(fwmark.FamilyOf(r.Gateway))))
		b = appendAttribute(b, unix.RTA_VIA, append(via, r.Gateway.AsSlice()...)...)
	}
	if r.Src.IsValid() {
		b = appendAddress(b, unix.RTA_PREFSRC, r.Src)
	}
	if r.Metric != 0 {
		b = appendNumber(b, unix.RTA_PRIORITY, r.Metric)
	}
	if index != 0 {
		b = appendNumber(b, unix.RTA_OIF, index)
	}
	if r.MTU != 0 || r.AdvMSS != 0 {
		b = appendMetrics(b, r)
	}
	if r.Preference != policy.MediumPreference {
		for bits, p := range preferences {
			if p == r.Preference {
				b = appendAttribute(b, unix.RTA_PREF, byte(bits))
			}
		}
	}
	return b
}

// appendMetrics appends what ip-route(8) calls mtu and advmss, which are
// attributes in one.
func appendMetrics(b []byte, r *policy.Route) []byte {
	var metrics []byte
	if r.MTU != 0 {
		metrics = appendNumber(metrics, unix.RTAX_MTU, r.MTU)
	}
	if r.AdvMSS != 0 {
		metrics = appendNumber(metrics, unix.RTAX_ADVMSS, r.AdvMSS)
	}
	return appendAttribute(b, unix.RTA_METRICS, metrics...)
}

// preferences are those of RFC 4191 by their two bits. The third one is reserved,
// and is to be taken for medium.
var preferences = [...]policy.Preference{policy.MediumPreference, policy.HighPreference, policy.MediumPreference, policy.LowPreference}

// routeDecoder reads messages of RTM_NEWROUTE, one after the other. device names
// an index.
type routeDecoder struct {
	device func(uint32) string
	route  policy.Route
	dstLen int
	hops   []policy.Route // of a multipath route: Gateway, Device and OnLink of each

	nexthop  uint32   // the id of its nexthop object; 0: none
	nexthops nexthops // those that are known
	missed   bool     // some route had one that is not
}

// decode reads a message, from its header on, and hands on one Route for each
// nexthop. What it does not know makes the route Opaque; an error means that it
// is no route at all.
func (d *routeDecoder) decode(m []byte, add func(*policy.Route)) error {
	if len(m) < headerSize {
		return nlsock.ErrShort
	}
	family, err := familyOfNumber(m[0])
	if err != nil {
		return err
	}
	flags := binary.NativeEndian.Uint32(m[8:])
	d.dstLen, d.hops, d.nexthop = int(m[1]), d.hops[:0], 0
	d.route = policy.Route{
		Family: family, Table: uint32(m[4]), Protocol: m[5], Type: policy.RouteType(m[7]),
		Dst:    netip.PrefixFrom(family.Unspecified(), 0),
		OnLink: flags&unix.RTNH_F_ONLINK != 0,
		Opaque: m[2] != 0 || m[3] != 0, // source-specific, or by type of service
	}
	known, err := eachAttribute(m[headerSize:], d.read)
	if err != nil {
		return fmt.Errorf("attributes of a route: %w", err)
	}
	d.route.Opaque = d.route.Opaque || !known
	if d.dstLen > 0 && d.route.Dst.Bits() != d.dstLen {
		return fmt.Errorf("a route to a prefix of %d bits has no such address", d.dstLen)
	}
	if d.nexthop != 0 && d.route.Device == "" && len(d.hops) == 0 {
		d.resolve()
	}
	if len(d.hops) == 0 {
		add(&d.route)
	}
	for i, hop := range d.hops {
		r := d.route
		r.Hop, r.Gateway, r.Device, r.OnLink = i+1, hop.Gateway, hop.Device, hop.OnLink
		add(&r)
	}
	return nil
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
	case unix.RTA_PREF:
		if len(a.value) != 1 || int(a.value[0]) >= len(preferences) {
			return false
		}
		d.route.Preference = preferences[a.value[0]]
	case unix.RTA_METRICS:
		return readMetrics(&d.route, a.value)
	case attributeNexthop:
		d.nexthop = number
		return false
	default:
		return false
	}
	return true
}

// readMetrics reads mtu and advmss, and reports whether there is nothing else.
func readMetrics(r *policy.Route, b []byte) bool {
	known, err := eachAttribute(b, func(a attribute) bool {
		number, isNumber := a.number()
		switch a.kind {
		case unix.RTAX_MTU:
			r.MTU = number
		case unix.RTAX_ADVMSS:
			r.AdvMSS = number
		default:
			return false
		}
		return isNumber
	})
	return known && err == nil
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
		known, err := eachAttribute(b[sizeofNexthop:length], func(a attribute) bool {
			return a.kind != unix.RTA_GATEWAY && a.kind != unix.RTA_VIA || gateway(&hop, a)
		})
		if err != nil || !known {
			return false
		}
		d.hops = append(d.hops, hop)
		b = b[min(len(b), aligned(length)):]
	}
	return len(b) == 0
}
