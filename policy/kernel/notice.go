package kernel

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/nlsock"
	"wg-multihome/policy"
)

// Subject is what a notice is about.
type Subject uint8

// The subjects. Other says that a message is about nothing that is read.
const (
	OtherSubject Subject = iota
	LinkSubject
	AddressSubject
	RouteSubject
	RuleSubject
	NexthopSubject
)

// Notice is what rtnetlink tells of a change, as far as it decides whether
// anything is to be read anew. Of its Link, Address, Rule and Route those count
// that Subject says.
type Notice struct {
	Subject Subject
	Gone    bool   // it was deleted
	Index   uint32 // of the link, or of the link that the address is on; of the route's device, 0 for several

	Link    policy.Link // without its VRF
	Master  uint32      // the link that the link is a port of, 0 for none
	Address policy.Address
	Rule    policy.Rule
	Route   RouteNotice
}

// RouteNotice is what is to be known of a route.
type RouteNotice struct {
	Family   fwmark.Family
	Table    uint32
	Protocol uint8
	Type     policy.RouteType
	Bits     int  // of its destination
	Cloned   bool // an exception that the kernel has made of a route
}

// ReadNotice reads a message of one of rtnetlink's groups: its kind, RTM_NEWLINK
// or another one, and its body. An error means that it is not what its kind says.
func ReadNotice(kind uint16, body []byte) (n Notice, err error) {
	switch kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		err = n.readLink(body)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		err = n.readAddress(body)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		err = n.readRoute(body)
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		n.Subject = RuleSubject
		if _, known := familyOfNumber(first(body)); known != nil && len(body) >= headerSize {
			n.Subject = OtherSubject // of multicast routing
			return n, nil
		}
		n.Rule, err = decodeRule(body)
	case unix.RTM_NEWNEXTHOP, unix.RTM_DELNEXTHOP:
		n.Subject = NexthopSubject
	}
	// In each of these pairs that which deletes is the next number.
	n.Gone = n.Subject != OtherSubject && kind&3 == 1
	return n, err
}

func first(b []byte) byte {
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

func (n *Notice) readLink(body []byte) (err error) {
	// AF_BRIDGE tells of a link's place in a bridge, AF_INET6 of its IPv6 settings.
	if len(body) >= unix.SizeofIfInfomsg && body[0] != unix.AF_UNSPEC {
		return nil
	}
	n.Subject = LinkSubject
	n.Link, n.Index, n.Master, err = decodeLink(body)
	return err
}

// readAddress reads an address. Its device is the link's index as text.
func (n *Notice) readAddress(body []byte) error {
	a, ok, err := decodeAddress(body, func(index uint32) string {
		n.Index = index
		return strconv.FormatUint(uint64(index), 10)
	})
	if err != nil || !ok {
		return err
	}
	n.Subject, n.Address = AddressSubject, a
	return nil
}

func (n *Notice) readRoute(body []byte) error {
	if len(body) < headerSize {
		return nlsock.ErrShort
	}
	family, err := familyOfNumber(body[0])
	if err != nil {
		return nil // of multicast routing
	}
	n.Subject = RouteSubject
	n.Route = RouteNotice{
		Family: family, Table: uint32(body[4]), Protocol: body[5], Type: policy.RouteType(body[7]), Bits: int(body[1]),
		Cloned: binary.NativeEndian.Uint32(body[8:])&unix.RTM_F_CLONED != 0,
	}
	_, err = eachAttribute(body[headerSize:], func(a attribute) bool {
		number, isNumber := a.number()
		switch {
		case a.kind == unix.RTA_TABLE && isNumber:
			n.Route.Table = number
		case a.kind == unix.RTA_OIF && isNumber:
			n.Index = number
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("attributes of a route: %w", err)
	}
	return nil
}
