package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// linkTries bounds how often routes are read again because links came while
// they were read.
const linkTries = 3

// Facts reads everything of policy.Facts that the kernel knows: all but
// Leases and ScriptRules.
func (c *Client) Facts() (policy.Facts, error) {
	var f policy.Facts
	for _, read := range []func(*policy.Facts) error{c.ReadLinks, c.ReadAddrs, c.ReadRules, c.ReadRoutes} {
		if err := read(&f); err != nil {
			return f, err
		}
	}
	return f, nil
}

// ReadLinks reads the links. Addresses and routes that are read later name the
// devices that were there now.
func (c *Client) ReadLinks(f *policy.Facts) error {
	var links []netlink.Link
	var err error
	for range dumpTries {
		if links, err = c.handle.LinkList(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("read links: %w", err)
	}
	f.Links = make([]policy.Link, 0, len(links))
	c.names = make(map[uint32]string, len(links))
	c.links = make(map[string]uint32, len(links))
	for _, l := range links {
		a := l.Attrs()
		c.names[uint32(a.Index)] = a.Name
		c.links[a.Name] = uint32(a.Index)
		f.Links = append(f.Links, policy.Link{
			Name: a.Name, Up: a.Flags&net.FlagUp != 0, PointToPoint: a.Flags&net.FlagPointToPoint != 0,
			Loopback: a.Flags&net.FlagLoopback != 0, WireGuard: l.Type() == "wireguard", Kind: kind(l),
		})
	}
	return nil
}

// kind returns the kernel's own word for a link's kind (rtnl_link_ops), which
// is netlink's but for tun.
func kind(l netlink.Link) string {
	if k := l.Type(); k != "tuntap" {
		return k
	}
	return "tun"
}

// ReadAddrs reads the addresses of the links that were read last.
func (c *Client) ReadAddrs(f *policy.Facts) error {
	var list []netlink.Addr
	var err error
	for range dumpTries {
		if list, err = c.handle.AddrList(nil, netlink.FAMILY_ALL); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("read addresses: %w", err)
	}
	f.Addrs = make([]policy.Address, 0, len(list))
	for _, a := range list {
		name, known := c.names[uint32(a.LinkIndex)]
		if !known || a.IPNet == nil {
			continue
		}
		addr, ok := netip.AddrFromSlice(a.IP)
		bits, size := a.Mask.Size()
		if !ok || size == 0 {
			continue
		}
		if size == 32 { // net.IP may hold IPv4 in 16 bytes
			addr = addr.Unmap()
		}
		broadcast, _ := netip.AddrFromSlice(a.Broadcast) // IPv6 has none
		f.Addrs = append(f.Addrs, policy.Address{
			Device: name, Broadcast: broadcast.Unmap(), Prefix: netip.PrefixFrom(addr, bits), Global: a.Scope == unix.RT_SCOPE_UNIVERSE,
			Unready:    a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 && a.Flags&unix.IFA_F_OPTIMISTIC == 0,
			Deprecated: a.Flags&unix.IFA_F_DEPRECATED != 0,
			Temporary:  addr.Is6() && a.Flags&unix.IFA_F_TEMPORARY != 0,
		})
	}
	return nil
}

// ReadRules reads the rules, and tells for which families there are any in this
// kernel.
func (c *Client) ReadRules(f *policy.Facts) error {
	f.Rules, f.Families = nil, [2]bool{}
	for _, family := range fwmark.Families {
		rules, err := c.readRules(family)
		switch {
		case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
			continue // no such family, or no policy rules, in this kernel
		case err != nil:
			return fmt.Errorf("read IPv%s rules: %w", family, err)
		}
		f.Families[family] = true
		f.Rules = append(f.Rules, rules...)
	}
	return nil
}

// readRules dumps rules until two dumps agree: while others write, a dump
// misses some and repeats others, and unlike elsewhere the kernel does not say
// so.
func (c *Client) readRules(family fwmark.Family) ([]policy.Rule, error) {
	var last [][]byte
	for try := range dumpTries {
		messages, err := c.dumpRules(family)
		if err != nil {
			return nil, err
		}
		agree := try > 0 && slices.EqualFunc(messages, last, bytes.Equal)
		last = messages
		if agree {
			break
		}
	}
	rules := make([]policy.Rule, 0, len(last))
	for _, m := range last {
		r, err := decodeRule(m)
		if err != nil {
			return nil, err
		}
		if r.Family == family { // an unknown family has all families dumped
			rules = append(rules, r)
		}
	}
	return rules, nil
}

func (c *Client) dumpRules(family fwmark.Family) ([][]byte, error) {
	var messages [][]byte
	req := c.question(unix.RTM_GETRULE, &nl.RtMsg{RtMsg: unix.RtMsg{Family: familyNumber(family)}})
	err := dump(req, unix.RTM_NEWRULE, func() { messages = nil }, func(m []byte) { messages = append(messages, m) })
	return messages, err
}

// ReadRoutes reads the routes that decisions depend on; f's rules tell which
// tables those are in. Where one leads through a link that has come since links
// were read, links and addresses are read again as well.
func (c *Client) ReadRoutes(f *policy.Facts) error {
	for try := 1; ; try++ {
		unknown, err := c.readRoutes(f)
		if err != nil || !unknown || try == linkTries {
			return err
		}
		if err := errors.Join(c.ReadLinks(f), c.ReadAddrs(f)); err != nil {
			return err
		}
	}
}

// readRoutes reports whether a route leads through an unknown link.
func (c *Client) readRoutes(f *policy.Facts) (unknown bool, err error) {
	device := func(index uint32) string {
		name, ok := c.names[index]
		unknown = unknown || !ok && index != 0
		return name
	}
	f.Routes = nil
	for _, family := range fwmark.Families {
		if !f.Families[family] {
			continue
		}
		if err := c.readFamily(f, family, device); err != nil {
			return false, fmt.Errorf("read IPv%s routes: %w", family, err)
		}
	}
	return unknown, nil
}

// manyTables is from where on one dump of all routes is cheaper than one for
// each table.
const manyTables = 32

// readFamily reads what policy decides by: main, all of ours, and the tables
// that foreign rules look up, but for `local`: what it holds leads nowhere.
func (c *Client) readFamily(f *policy.Facts, family fwmark.Family, device func(uint32) string) error {
	tables := map[uint32]bool{policy.TableMain: true}
	for _, r := range f.Rules {
		if r.Family == family && !r.Ours() && r.Action == policy.Lookup && r.Table != policy.TableLocal && r.Table != 0 {
			tables[r.Table] = true
		}
	}
	wanted := func(r policy.Route) bool {
		return r.Family == family && (tables[r.Table] || r.Protocol == policy.Protocol)
	}
	if len(tables) > manyTables {
		return c.dumpRoutes(f, family, 0, 0, device, wanted)
	}
	for table := range tables {
		of := func(r policy.Route) bool { return wanted(r) && r.Table == table }
		if err := c.dumpRoutes(f, family, table, 0, device, of); err != nil {
			return fmt.Errorf("table %d: %w", table, err)
		}
	}
	ours := func(r policy.Route) bool { return wanted(r) && !tables[r.Table] }
	return c.dumpRoutes(f, family, 0, policy.Protocol, device, ours)
}

// dumpRoutes appends the wanted routes of a table, 0 for all of them, and of a
// protocol, likewise. The kernel filters where it can.
func (c *Client) dumpRoutes(f *policy.Facts, family fwmark.Family, table uint32, protocol uint8, device func(uint32) string, wanted func(policy.Route) bool) error {
	req := c.question(unix.RTM_GETROUTE, &nl.RtMsg{RtMsg: unix.RtMsg{Family: familyNumber(family), Protocol: protocol}})
	if table != 0 {
		req.AddData(nl.NewRtAttr(unix.RTA_TABLE, nl.Uint32Attr(table)))
	}
	before := len(f.Routes)
	var bad error
	err := dump(req, unix.RTM_NEWROUTE, func() { f.Routes, bad = f.Routes[:before], nil }, func(m []byte) {
		routes, err := decodeRoute(m, device)
		if err != nil {
			bad = err
			return
		}
		for _, r := range routes {
			if wanted(r) {
				f.Routes = append(f.Routes, r)
			}
		}
	})
	return errors.Join(err, bad)
}

// Tables reads the routes of further tables, in both families, but for ours.
// Devices are those of the links that were read last.
func (c *Client) Tables(tables []uint32) ([]policy.Route, error) {
	device := func(index uint32) string { return c.names[index] }
	var f policy.Facts
	for _, family := range fwmark.Families {
		for _, table := range tables {
			wanted := func(r policy.Route) bool {
				return r.Family == family && r.Table == table && r.Protocol != policy.Protocol
			}
			err := c.dumpRoutes(&f, family, table, 0, device, wanted)
			if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
				return nil, fmt.Errorf("table %d: %w", table, err)
			}
		}
	}
	return f.Routes, nil
}
