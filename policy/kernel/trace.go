package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/nlsock"
	"wg-multihome/policy"
)

// TracedRules reads the rules of a family with all that they select by, until two
// dumps agree, see ReadRules.
func (c *Client) TracedRules(family fwmark.Family) ([]policy.TracedRule, error) {
	var last []policy.TracedRule
	for try := range nlsock.DumpTries {
		var now []policy.TracedRule
		err := c.socket.dump(unix.RTM_GETRULE, header(family, 0), unix.RTM_NEWRULE, func() { now = nil }, func(m []byte) error {
			r, err := decodeTraced(m)
			if err == nil && r.Family == family {
				now = append(now, r)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read IPv%s rules: %w", family, err)
		}
		if try > 0 && reflect.DeepEqual(now, last) {
			break
		}
		last = now
	}
	return last, nil
}

// Selectors that x/sys/unix has no names for, linux/fib_rules.h.
const (
	fraDSCP          = 25
	fraFlowlabel     = 26
	fraFlowlabelMask = 27
	fraSportMask     = 28
	fraDportMask     = 29
	fraDSCPMask      = 30
)

// unjudged are selectors that depend on more than a Probe has, as ip-rule(8) calls
// them.
var unjudged = map[uint16]string{
	unix.FRA_TUN_ID: "tun_id", unix.FRA_L3MDEV: "l3mdev", unix.FRA_UID_RANGE: "uidrange", unix.FRA_SPORT_RANGE: "sport",
	fraDSCP: "dscp", fraFlowlabel: "flowlabel", fraSportMask: "sport", fraDportMask: "dport",
	fraFlowlabelMask: "", fraDSCPMask: "", // said beside them
	unix.FRA_FLOW: "", // a realm is given to what is routed, and selects nothing
}

func decodeTraced(m []byte) (policy.TracedRule, error) {
	var t policy.TracedRule
	var err error
	t.Rule, err = decodeRuleWith(m, func(a attribute) {
		name, known := unjudged[a.kind]
		switch {
		case a.kind == unix.FRA_IP_PROTO && len(a.value) == 1:
			t.Selectors.Protocol = a.value[0]
		case a.kind == unix.FRA_DPORT_RANGE && len(a.value) == 4:
			t.Ports = policy.PortRange{First: binary.NativeEndian.Uint16(a.value), Last: binary.NativeEndian.Uint16(a.value[2:])}
		case known && name == "", a.kind == fraDportMask && slices.Equal(a.value, []byte{0xff, 0xff}): // of a single port
		case known:
			t.Unknown = append(t.Unknown, name)
		default:
			t.Unknown = append(t.Unknown, "attribute "+strconv.Itoa(int(a.kind)))
		}
	})
	if err == nil && m[3] != 0 {
		t.Unknown = append(t.Unknown, "tos")
	}
	return t, err
}

// RoutesTo reads the routes of all tables that have a destination in them, those of
// the local table too. Links are read before, so that devices have names.
func (c *Client) RoutesTo(dst netip.Addr) ([]policy.Route, error) {
	var links policy.Facts
	if err := c.ReadLinks(&links); err != nil {
		return nil, err
	}
	family := fwmark.FamilyOf(dst)
	var routes []policy.Route
	err := c.dumpRoutes(family, 0, 0, c.device, func() { routes = nil }, func(r *policy.Route) {
		if r.Family == family && r.Dst.Contains(dst) {
			routes = append(routes, *r)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read IPv%s routes: %w", family, err)
	}
	return routes, nil
}

// ExceptionsTo reads what IPv6 has learned of paths to a destination, of the routes to
// it: in IPv4 that is no route of its own. A kernel that does not tell (before Linux
// 5.3) has none. Devices are those of the links that were read last.
func (c *Client) ExceptionsTo(dst netip.Addr, routes []policy.Route) ([]policy.Exception, error) {
	if fwmark.FamilyOf(dst) != fwmark.IPv6 {
		return nil, nil
	}
	request := header(fwmark.IPv6, 0)
	binary.NativeEndian.PutUint32(request[headerSize-4:], unix.RTM_F_CLONED)
	var learned []policy.Route
	err := c.requestRoutes(request, c.device, func() { learned = nil }, func(r *policy.Route) {
		if r.Dst == netip.PrefixFrom(dst, dst.BitLen()) {
			learned = append(learned, *r)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read what IPv6 has learned of paths: %w", err)
	}
	var exceptions []policy.Exception
	for _, l := range learned {
		for _, r := range routes {
			if r.Table == l.Table && r.Device == l.Device && r.Gateway == l.Gateway && r.Metric == l.Metric && r.Type == l.Type {
				exceptions = append(exceptions, policy.Exception{Route: r, Dst: dst, MTU: l.MTU})
			}
		}
	}
	return exceptions, nil
}

// Resolve returns what the kernel says of a packet, by its own look-up
// (RTM_GETROUTE), and which entry of which table it found. Nothing is sent.
// Devices are those of the links that were read last.
func (c *Client) Resolve(p policy.Probe) (policy.Resolved, error) {
	var k policy.Resolved
	flags, err := c.resolve(p, 0, &k.Route, &k.Errno)
	if err != nil || k.Errno != 0 {
		return k, err
	}
	k.Device = k.Route.Device
	// An IPv4 answer is one of its own in any case.
	k.Learned = fwmark.FamilyOf(p.Dst) == fwmark.IPv6 && flags&unix.RTM_F_CLONED != 0
	// Not each answer comes from an entry: IPv4 takes what is looked up with a device
	// for on-link where there is none.
	var errno unix.Errno
	_, err = c.resolve(p, unix.RTM_F_FIB_MATCH|unix.RTM_F_LOOKUP_TABLE, &k.Match, &errno)
	return k, err
}

// resolve asks for one look-up. The flags that are returned are the answer's.
func (c *Client) resolve(p policy.Probe, flags uint32, r *policy.Route, errno *unix.Errno) (uint32, error) {
	s := c.socket
	s.sequence++
	s.request = beginMessage(s.request[:0], unix.RTM_GETROUTE, 0, s.sequence)
	s.request = appendQuestion(s.request, &p.Packet)
	binary.NativeEndian.PutUint32(s.request[unix.SizeofNlMsghdr+8:], flags)
	if p.Device != "" {
		s.request = appendNumber(s.request, unix.RTA_OIF, c.links[p.Device])
	}
	if p.Protocol != 0 {
		s.request = appendAttribute(s.request, unix.RTA_IP_PROTO, p.Protocol)
	}
	if p.Port != 0 {
		s.request = appendAttribute(s.request, unix.RTA_DPORT, byte(p.Port>>8), byte(p.Port))
	}
	s.request = endMessage(s.request, 0)
	if err := s.Send(s.request); err != nil {
		return 0, fmt.Errorf("look up a route: %w", err)
	}
	for {
		b, err := s.Receive()
		if err != nil {
			return 0, fmt.Errorf("look up a route: %w", err)
		}
		for len(b) > 0 {
			var m nlsock.Message
			if m, b, err = nlsock.Cut(b); err != nil {
				return 0, fmt.Errorf("look up a route: %w", err)
			}
			if m.Sequence != s.sequence {
				continue
			}
			a, err := c.answerOf(m)
			if err != nil {
				return 0, fmt.Errorf("look up a route: %w", err)
			}
			*errno = a.Errno
			flags = 0
			if m.Kind == unix.RTM_NEWROUTE {
				flags = binary.NativeEndian.Uint32(m.Body[headerSize-4:])
				d := routeDecoder{device: c.device, nexthops: c.nexthops}
				first := true
				err = d.decode(m.Body, func(o *policy.Route) {
					if first {
						*r, first = *o, false
					}
				})
			}
			return flags, err
		}
	}
}
