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

// skipStatistics leaves out counters, which are half of what the kernel says of
// a link (RTEXT_FILTER_SKIP_STATS, linux/rtnetlink.h).
const skipStatistics = 1 << 3

// ReadLinks reads the links. Addresses and routes that are read later name the
// devices that were there now.
func (c *Client) ReadLinks(f *policy.Facts) error {
	body := make([]byte, unix.SizeofIfInfomsg)
	body = appendNumber(body, unix.IFLA_EXT_MASK, skipStatistics)
	var masters []uint32 // of each link
	err := c.socket.dump(unix.RTM_GETLINK, body, unix.RTM_NEWLINK, func() {
		f.Links, c.names, c.links, masters = nil, map[uint32]string{}, map[string]uint32{}, nil
	}, func(m []byte) error {
		l, index, master, err := decodeLink(m)
		if err != nil {
			return err
		}
		c.names[index], c.links[l.Name] = l.Name, index
		f.Links, masters = append(f.Links, l), append(masters, master)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read links: %w", err)
	}
	nameVRFs(f.Links, masters, c.names)
	return nil
}

// nameVRFs notes which links have a VRF for their master.
func nameVRFs(links []policy.Link, masters []uint32, names map[uint32]string) {
	vrfs := map[string]bool{}
	for _, l := range links {
		vrfs[l.Name] = l.Kind == "vrf"
	}
	for i, master := range masters {
		if name := names[master]; vrfs[name] {
			links[i].VRF = name
		}
	}
}

// ReadAddrs reads the addresses of the links that were read last.
func (c *Client) ReadAddrs(f *policy.Facts) error {
	err := c.socket.dump(unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg), unix.RTM_NEWADDR, func() { f.Addrs = nil }, func(m []byte) error {
		a, ok, err := decodeAddress(m, c.device)
		if ok {
			f.Addrs = append(f.Addrs, a)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read addresses: %w", err)
	}
	return nil
}

// decodeLink reads a message of RTM_NEWLINK, from struct ifinfomsg on. master is
// the index of the device that it is a port of, 0 for none.
func decodeLink(m []byte) (l policy.Link, index, master uint32, err error) {
	if len(m) < unix.SizeofIfInfomsg {
		return l, 0, 0, nlsock.ErrShort
	}
	flags := binary.NativeEndian.Uint32(m[8:])
	l = policy.Link{Up: flags&unix.IFF_UP != 0, PointToPoint: flags&unix.IFF_POINTOPOINT != 0, Loopback: flags&unix.IFF_LOOPBACK != 0}
	_, err = eachAttribute(m[unix.SizeofIfInfomsg:], func(a attribute) bool {
		switch a.kind {
		case unix.IFLA_IFNAME:
			l.Name = unix.ByteSliceToString(a.value)
		case unix.IFLA_MASTER:
			master, _ = a.number()
		case unix.IFLA_LINKINFO:
			_, err = eachAttribute(a.value, func(a attribute) bool {
				if a.kind == unix.IFLA_INFO_KIND {
					l.Kind = unix.ByteSliceToString(a.value)
				}
				return true
			})
			return err == nil
		case unix.IFLA_GROUP:
			l.Group, _ = a.number()
		case unix.IFLA_MTU:
			l.MTU[fwmark.IPv4], _ = a.number()
		case unix.IFLA_AF_SPEC:
			l.MTU[fwmark.IPv6] = mtuOfIPv6(a.value)
		}
		return true
	})
	if l.MTU[fwmark.IPv6] == 0 {
		l.MTU[fwmark.IPv6] = l.MTU[fwmark.IPv4]
	}
	if err != nil {
		return l, 0, 0, fmt.Errorf("attributes of a link: %w", err)
	}
	l.WireGuard = l.Kind == "wireguard" || l.Kind == "amneziawg"
	return l, binary.NativeEndian.Uint32(m[4:]), master, nil
}

// mtuOfIPv6 reads IFLA_AF_SPEC: the largest packet of IPv6, which a router's
// advertisement may have set; 0 where the link has no IPv6.
func mtuOfIPv6(spec []byte) (mtu uint32) {
	const at = 4 * 2                                    // DEVCONF_MTU6 of linux/ipv6.h is the third of an array of numbers
	_, _ = eachAttribute(spec, func(a attribute) bool { // where it is cut off the link's own MTU does
		if a.kind == unix.AF_INET6 {
			_, _ = eachAttribute(a.value, func(a attribute) bool {
				if a.kind == unix.IFLA_INET6_CONF && len(a.value) >= at+4 {
					mtu = binary.NativeEndian.Uint32(a.value[at:])
				}
				return true
			})
		}
		return true
	})
	return mtu
}

// decodeAddress reads a message of RTM_NEWADDR, from struct ifaddrmsg on. ok is
// false where it is none of ours to know: of another family, or of a link that
// has come since. device names an index.
func decodeAddress(m []byte, device func(uint32) string) (a policy.Address, ok bool, err error) {
	if len(m) < unix.SizeofIfAddrmsg {
		return a, false, nlsock.ErrShort
	}
	family, err := familyOfNumber(m[0])
	if err != nil {
		return a, false, nil
	}
	a.Device = device(binary.NativeEndian.Uint32(m[4:]))
	flags := uint32(m[2])
	var local, remote netip.Addr
	_, err = eachAttribute(m[unix.SizeofIfAddrmsg:], func(attr attribute) bool {
		switch attr.kind {
		case unix.IFA_ADDRESS:
			remote, _ = address(family, attr.value)
		case unix.IFA_LOCAL:
			local, _ = address(family, attr.value)
		case unix.IFA_BROADCAST:
			a.Broadcast, _ = address(family, attr.value)
		case unix.IFA_FLAGS: // all 32 of them
			if n, ok := attr.number(); ok {
				flags = n
			}
		}
		return true
	})
	if err != nil {
		return a, false, fmt.Errorf("attributes of an address: %w", err)
	}
	// IPv6 has no IFA_LOCAL but where there is a peer, and IPv4 has both of
	// them. The length is that of the peer's network, where there is one.
	addr, bits := remote, int(m[1])
	if local.IsValid() && local != remote {
		addr, bits = local, family.Bits()
	}
	if !addr.IsValid() || bits > family.Bits() || a.Device == "" {
		return a, false, nil
	}
	a.Prefix, a.Global = netip.PrefixFrom(addr, bits), m[3] == unix.RT_SCOPE_UNIVERSE
	a.Unready = flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 && flags&unix.IFA_F_OPTIMISTIC == 0
	a.Tentative = a.Unready && flags&unix.IFA_F_DADFAILED == 0
	a.Deprecated = flags&unix.IFA_F_DEPRECATED != 0
	a.Temporary = family == fwmark.IPv6 && flags&unix.IFA_F_TEMPORARY != 0
	return a, true, nil
}

// appendLinkGroup appends struct ifinfomsg and a link's group. The link goes by
// its index alone: with a name the kernel would rename it.
func appendLinkGroup(b []byte, index, group uint32) []byte {
	info := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(info[4:], index)
	return appendNumber(append(b, info...), unix.IFLA_GROUP, group)
}
