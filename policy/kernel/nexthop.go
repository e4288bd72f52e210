package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/nlsock"
	"wg-multihome/policy"
)

// Nexthop objects, ip-nexthop(8): routing daemons make them, and routes that
// share them. Where the sysctl net.ipv4.nexthop_compat_mode is 0 the kernel says
// of a route no more than its object's number.

// nexthops are the objects by their number. What is known of each is the
// Gateway, Device, OnLink and Type of a route.
type nexthops map[uint32]nexthop

type nexthop struct {
	route policy.Route
	group []uint32 // the members of a group, by number
}

// sizeofNexthopMessage is that of struct nhmsg, linux/nexthop.h, in bytes:
// family, scope, protocol, a byte that is free, flags. sizeofMember is that of
// struct nexthop_grp: a number, and its weight.
const (
	sizeofNexthopMessage = 8
	sizeofMember         = 8
)

// readNexthops reads all of them. Devices are those of the links that were read
// last.
func (c *Client) readNexthops() (nexthops, error) {
	var known nexthops
	err := c.socket.dump(unix.RTM_GETNEXTHOP, make([]byte, sizeofNexthopMessage), unix.RTM_NEWNEXTHOP, func() { known = nexthops{} }, func(m []byte) error {
		return known.decode(m, c.device)
	})
	if errors.Is(err, unix.EOPNOTSUPP) { // before Linux 5.3
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("read nexthop objects: %w", err)
	}
	return known, nil
}

// decode reads a message of RTM_NEWNEXTHOP, from struct nhmsg on.
func (n nexthops) decode(m []byte, device func(uint32) string) error {
	if len(m) < sizeofNexthopMessage {
		return nlsock.ErrShort
	}
	var id uint32
	next := nexthop{route: policy.Route{Type: policy.Unicast, OnLink: binary.NativeEndian.Uint32(m[4:])&unix.RTNH_F_ONLINK != 0}}
	_, err := eachAttribute(m[sizeofNexthopMessage:], func(a attribute) bool {
		number, isNumber := a.number()
		switch a.kind {
		case unix.NHA_ID:
			id = number
			return isNumber
		case unix.NHA_OIF:
			next.route.Device = device(number)
			return isNumber
		case unix.NHA_BLACKHOLE:
			next.route.Type = policy.BlackholeRoute
		case unix.NHA_GATEWAY:
			family, err := familyOfNumber(m[0])
			if err != nil {
				return false
			}
			gw, ok := address(family, a.value)
			next.route.Gateway = gw
			return ok
		case unix.NHA_GROUP:
			for b := a.value; len(b) >= sizeofMember; b = b[sizeofMember:] {
				next.group = append(next.group, binary.NativeEndian.Uint32(b))
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("attributes of a nexthop object: %w", err)
	}
	n[id] = next
	return nil
}

// resolve gives the route what its nexthop object has, or one hop for each member
// of a group. (A group has no groups in it.)
func (d *routeDecoder) resolve() {
	next, known := d.nexthops[d.nexthop]
	if !known {
		d.missed = true
		return
	}
	for _, id := range next.group {
		member, known := d.nexthops[id]
		d.missed = d.missed || !known
		d.hops = append(d.hops, member.route)
	}
	if len(next.group) > 0 {
		return
	}
	d.route.Device, d.route.Gateway, d.route.OnLink = next.route.Device, next.route.Gateway, next.route.OnLink
	if next.route.Type != policy.Unicast {
		d.route.Type = next.route.Type
	}
}
