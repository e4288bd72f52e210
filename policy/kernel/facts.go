package kernel

import (
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/nlsock"
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

// ReadRules reads the rules, and tells for which families there are any in this
// kernel.
//
// It reads them until two dumps agree: while others write, a dump misses some
// and repeats others, and unlike elsewhere the kernel does not say so. The first
// dump only tells how many there are.
func (c *Client) ReadRules(f *policy.Facts) error {
	f.Rules, f.Families = nil, [2]bool{}
	var dumps [2]rulesDump
	number := 0
	for _, family := range fwmark.Families {
		d, err := c.dumpRules(family, nil)
		switch {
		case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
			continue // no such family, or no policy rules, in this kernel
		case err != nil:
			return fmt.Errorf("read IPv%s rules: %w", family, err)
		}
		f.Families[family], dumps[family] = true, d
		number += d.number
	}
	f.Rules = make([]policy.Rule, 0, number)
	for _, family := range fwmark.Families {
		if !f.Families[family] {
			continue
		}
		if err := c.readRules(f, family, dumps[family]); err != nil {
			return fmt.Errorf("read IPv%s rules: %w", family, err)
		}
	}
	return nil
}

// readRules appends the rules of a family, once a dump agrees with the one
// before.
func (c *Client) readRules(f *policy.Facts, family fwmark.Family, last rulesDump) error {
	others := len(f.Rules)
	for range nlsock.DumpTries {
		f.Rules = f.Rules[:others]
		now, err := c.dumpRules(family, f)
		if err != nil || now == last {
			return err
		}
		last = now
	}
	return nil
}

// rulesDump tells what the kernel answered: how many rules, and all of their
// bytes, hashed.
type rulesDump struct {
	number int
	hash   uint64
}

// dumpRules dumps the rules of a family once, and appends them to f's unless
// that is nil.
func (c *Client) dumpRules(family fwmark.Family, f *policy.Facts) (d rulesDump, err error) {
	before := 0
	if f != nil {
		before = len(f.Rules)
	}
	var hash maphash.Hash
	hash.SetSeed(c.seed)
	err = c.socket.dump(unix.RTM_GETRULE, header(family, 0), unix.RTM_NEWRULE, func() {
		d.number = 0
		hash.Reset()
		if f != nil {
			f.Rules = f.Rules[:before]
		}
	}, func(m []byte) error {
		d.number++
		hash.Write(m) // never returns an error
		if f == nil {
			return nil
		}
		r, err := decodeRule(m)
		if err == nil && r.Family == family { // an unknown family has all families dumped
			f.Rules = append(f.Rules, r)
		}
		return err
	})
	d.hash = hash.Sum64()
	return d, err
}

// header is struct fib_rule_hdr, or struct rtmsg, of a request for all rules or
// routes of a family, those of a protocol alone where that is not 0.
func header(family fwmark.Family, protocol uint8) []byte {
	b := make([]byte, headerSize)
	b[0], b[5] = familyNumber(family), protocol
	return b
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
	// An address of ours has two rules and a route, and a host some of its own; or there
	// are as many as before.
	f.Routes, f.Feeds, c.nexthops = make([]policy.Route, 0, max(len(f.Rules)/2, len(f.Routes))+64), nil, nil
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
	for i := range f.Rules {
		if table, is := f.Rules[i].ForeignTable(); is && f.Rules[i].Family == family {
			tables[table] = true
		}
	}
	wanted := func(r *policy.Route) bool {
		return r.Family == family && (tables[r.Table] || r.Protocol == policy.Protocol)
	}
	if len(tables) > manyTables {
		return c.collectRoutes(f, family, 0, 0, device, wanted)
	}
	for _, table := range slices.Sorted(maps.Keys(tables)) {
		of := func(r *policy.Route) bool { return wanted(r) && r.Table == table }
		if err := c.collectRoutes(f, family, table, 0, device, of); err != nil {
			return fmt.Errorf("table %d: %w", table, err)
		}
	}
	ours := func(r *policy.Route) bool { return wanted(r) && !tables[r.Table] }
	return c.collectRoutes(f, family, 0, policy.Protocol, device, ours)
}

// collectRoutes adds the wanted routes of a table, 0 for all of them, and of a
// protocol, likewise, or what is to be known of them.
func (c *Client) collectRoutes(f *policy.Facts, family fwmark.Family, table uint32, protocol uint8, device func(uint32) string, wanted func(*policy.Route) bool) error {
	collector := policy.CollectRoutes(f)
	err := c.dumpRoutes(family, table, protocol, device, collector.Restart, func(r *policy.Route) {
		if wanted(r) {
			collector.Add(r)
		}
	})
	collector.Done()
	return err
}

// ReadDeviceRoutes adds the unicast routes of others through some devices, of
// tables that nothing was read of so far. Devices are those of the links that
// were read last.
func (c *Client) ReadDeviceRoutes(f *policy.Facts, devices []string) error {
	type table struct {
		family fwmark.Family
		number uint32
	}
	known := map[table]bool{}
	for _, family := range fwmark.Families {
		known[table{family, policy.TableMain}], known[table{family, policy.TableLocal}] = true, true
	}
	for i := range f.Routes {
		known[table{f.Routes[i].Family, f.Routes[i].Table}] = true
	}
	for _, family := range fwmark.Families {
		for _, name := range devices {
			index, is := c.links[name]
			if !f.Families[family] || !is {
				continue
			}
			request := header(family, 0)
			request[7] = unix.RTN_UNICAST
			request = appendNumber(request, unix.RTA_OIF, index)
			collector := policy.CollectRoutes(f)
			err := c.requestRoutes(request, c.device, collector.Restart, func(r *policy.Route) {
				if r.Family == family && r.Device == name && r.Type == policy.Unicast && !r.Ours() && !known[table{family, r.Table}] {
					collector.Add(r)
				}
			})
			collector.Done()
			if err != nil {
				return fmt.Errorf("read IPv%s routes through %q: %w", family, name, err)
			}
		}
	}
	return nil
}

// dumpRoutes hands routes to add. The kernel filters where it can; the others
// come, too.
func (c *Client) dumpRoutes(family fwmark.Family, table uint32, protocol uint8, device func(uint32) string, restart func(), add func(*policy.Route)) error {
	request := header(family, protocol)
	if table != 0 {
		request = appendNumber(request, unix.RTA_TABLE, table)
	}
	return c.requestRoutes(request, device, restart, add)
}

// requestRoutes hands the routes that are asked for to add. Where they have
// nexthop objects that are not known yet, those are read, and routes again.
func (c *Client) requestRoutes(request []byte, device func(uint32) string, restart func(), add func(*policy.Route)) error {
	dump := func() (missed bool, err error) {
		d := routeDecoder{device: device, nexthops: c.nexthops}
		err = c.socket.dump(unix.RTM_GETROUTE, request, unix.RTM_NEWROUTE, restart, func(m []byte) error { return d.decode(m, add) })
		return d.missed, err
	}
	missed, err := dump()
	if !missed || err != nil {
		return err
	}
	if c.nexthops, err = c.readNexthops(); err != nil {
		return err
	}
	_, err = dump()
	return err
}

// Tables reads the routes of further tables, in both families, but for ours.
// Devices are those of the links that were read last.
func (c *Client) Tables(tables []uint32) ([]policy.Route, error) {
	var routes []policy.Route
	for _, family := range fwmark.Families {
		for _, table := range tables {
			before := len(routes)
			err := c.dumpRoutes(family, table, 0, c.device, func() { routes = routes[:before] }, func(r *policy.Route) {
				if r.Family == family && r.Table == table && r.Protocol != policy.Protocol {
					routes = append(routes, *r)
				}
			})
			if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
				return nil, fmt.Errorf("table %d: %w", table, err)
			}
		}
	}
	return routes, nil
}
