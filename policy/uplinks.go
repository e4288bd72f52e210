package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"wg-multihome/fwmark"
)

// ownDefaults finds the default routes of ours by their table. It looks through
// all routes when it is asked first: mostly nobody asks.
type ownDefaults struct {
	routes  []Route
	byTable map[tableKey]*Route
}

// of returns the route of a table; the zero Route where it has none.
func (o *ownDefaults) of(family fwmark.Family, table uint32) Route {
	if o.byTable == nil {
		o.byTable = map[tableKey]*Route{}
		for i := range o.routes {
			if r := &o.routes[i]; r.Ours() && r.isDefault() && r.Table != TableMain {
				o.byTable[r.tableKey()] = r
			}
		}
	}
	if r := o.byTable[tableKey{family, table}]; r != nil {
		return *r
	}
	return Route{}
}

// Uplinks finds the uplinks: what has a lease record, an option or a stanza's
// gateway, or a default route in main. broken says that the configuration has
// an error; then what stands of ours makes an uplink, too, and tells its
// gateway last of all.
//
// An address that several uplinks have stays with one of them, and is an error in
// any case (see settleShared).
func Uplinks(f Facts, intents []fwmark.Intent, broken bool) ([]fwmark.Uplink, []error) {
	s := survey{facts: f, uplinks: map[string]*found{}, links: make(map[string]Link, len(f.Links)), own: ownDefaults{routes: f.Routes}}
	s.leading = devicesEverywhere(f, func(tableKey) bool { return true })
	for _, l := range f.Links {
		s.links[l.Name] = l
	}
	s.fromLeases()
	s.fromIntents(intents)
	s.fromMain()
	if broken {
		s.fromStanding()
	}
	s.fromTables()
	s.addAddresses()
	errs := slices.Concat(s.settleVRFs(), s.settleForeign(), s.settleTwins(), s.settleShared())
	list := make([]fwmark.Uplink, 0, len(s.uplinks))
	for _, u := range s.uplinks {
		list = append(list, s.finish(u, broken))
	}
	slices.SortFunc(list, func(a, b fwmark.Uplink) int { return strings.Compare(a.Name, b.Name) })
	return list, errs
}

// found is an uplink with what its gateways and address are chosen from.
type found struct {
	fwmark.Uplink
	marked     bool // it has a mark
	lease      Lease
	leased     bool // the record counts: its address is there
	configured [2]netip.Addr
	stanzas    [2][]gateway
	main       [2][]*Route // those of main's that it leads everywhere by
	tables     [2][]*Route // those of other tables
	addrs      []*Address
	lent       map[netip.Addr]bool // those of them that another interface has
	global     [2][]netip.Addr     // those that the interface itself has, up to two of them
	vrf        bool                // it is in one, so that nothing can be led there
	taken      map[netip.Addr]bool // those of addrs whose table another uplink has, or others
}

type survey struct {
	facts   Facts
	sources []source
	uplinks map[string]*found
	links   map[string]Link
	own     ownDefaults
	leading map[feedKey]bool // devices that lead everywhere by what others have in a table
}

func (s *survey) uplink(name string) *found {
	u := s.uplinks[name]
	if u == nil {
		link, present := s.links[name]
		u = &found{Uplink: fwmark.Uplink{Name: name, Present: present, Up: link.Up, LinkMTU: link.MTU}}
		s.uplinks[name] = u
	}
	return u
}

func (s *survey) fromLeases() {
	for _, l := range s.facts.Leases {
		s.uplink(l.Device).lease = l
	}
}

func (s *survey) fromIntents(intents []fwmark.Intent) {
	twice := map[string]bool{}
	for _, in := range intents {
		if in.Uplink == "" {
			continue
		}
		u := s.uplink(in.Uplink)
		u.marked = u.marked || !in.Mark.IsZero()
		u.Through = append(u.Through, in.Through...)
		for _, fam := range fwmark.Families {
			if gw := in.StanzaGateways[fam]; gw.IsValid() {
				u.stanzas[fam] = append(u.stanzas[fam], gateway{addr: gw})
			}
			if in.Options() {
				u.configured[fam] = in.Gateways[fam]
			}
		}
		for _, addr := range slices.SortedFunc(maps.Keys(in.AddressGateways), netip.Addr.Compare) {
			fam := fwmark.FamilyOf(addr)
			u.stanzas[fam] = append(u.stanzas[fam], gateway{addr: in.AddressGateways[addr], only: addr})
		}
		for _, p := range in.Sources {
			s.sources = append(s.sources, source{p, in.Uplink})
		}
		// Options in two places: neither is the one that was meant.
		if in.Options() {
			if twice[in.Uplink] {
				u.configured = [2]netip.Addr{}
			}
			twice[in.Uplink] = true
		}
	}
}

// fromMain makes an uplink of each interface that leads everywhere by main's
// routes. Loopback and WireGuard devices are none: a full tunnel's default is
// not a way to the Internet but through an uplink.
func (s *survey) fromMain() {
	for i := range s.facts.Routes {
		r := &s.facts.Routes[i]
		if r.Table != TableMain || !s.isDefault(r) {
			continue
		}
		if l := s.links[r.Device]; l.Loopback || l.WireGuard {
			if s.uplinks[r.Device] == nil {
				continue
			}
		}
		u := s.uplink(r.Device)
		u.main[r.Family] = append(u.main[r.Family], r)
	}
}

// fromTables notes uplinks' defaults in other tables of others: networkd's
// RouteTable= and NetworkManager's ipv4.route-table put them there.
func (s *survey) fromTables() {
	for i := range s.facts.Routes {
		r := &s.facts.Routes[i]
		if u := s.uplinks[r.Device]; u != nil && r.Table != TableMain && s.isDefault(r) {
			u.tables[r.Family] = append(u.tables[r.Family], r)
		}
	}
}

// isDefault reports whether a route of others is a default, or a part of what its
// device leads everywhere by. dhcpcd gives an interface without a lease an IPv4
// address of 169.254/16 and a default from there (RFC 3927): nobody on that link
// was found who forwards, so it makes no uplink, and is the way of no lease.
func (s *survey) isDefault(r *Route) bool {
	return !(r.Family == fwmark.IPv4 && !r.Gateway.IsValid() && r.Src.IsLinkLocalUnicast()) && !r.Ours() && r.Type == Unicast && s.leading[feedKey{r.Family, r.Table, r.Device}] && isPublic(r.Dst)
}

// fromStanding keeps as uplinks the interfaces of addresses that have a pair of
// ours. The script's pair counts too: where both stand at one priority, deleting
// the script's may have deleted ours in its place, until the next round adds it
// again. Where several interfaces have the address, it is the one that the
// address's table leads to.
func (s *survey) fromStanding() {
	paired := map[netip.Addr]bool{}
	for _, r := range s.facts.Rules {
		if r.Ours() && r.sourced() {
			paired[r.From.Addr()] = true
		}
	}
	for _, r := range s.facts.ScriptRules {
		if r.sourced() {
			paired[r.From.Addr()] = true
		}
	}
	for _, a := range s.facts.Addrs {
		if addr := a.Prefix.Addr(); paired[addr] && s.own.of(fwmark.FamilyOf(addr), TableOf(addr)).Device == a.Device {
			s.uplink(a.Device)
			delete(paired, addr)
		}
	}
	had := map[netip.Addr]bool{} // by uplinks
	for _, a := range s.facts.Addrs {
		if s.uplinks[a.Device] != nil {
			had[a.Prefix.Addr()] = true
		}
	}
	for _, a := range s.facts.Addrs {
		addr := a.Prefix.Addr()
		if !paired[addr] {
			continue
		}
		leads := s.own.of(fwmark.FamilyOf(addr), TableOf(addr)).Device
		if !had[addr] && s.uplinks[leads] != nil {
			// It was given to that uplink by its prefix: nothing else makes an
			// uplink of an interface that has it.
			s.sources = append(s.sources, source{netip.PrefixFrom(addr, addr.BitLen()), leads})
			continue
		}
		s.uplink(a.Device)
	}
	for _, c := range Standing(s.facts) {
		if c.Uplink != "" {
			s.uplink(c.Uplink).marked = true
		}
	}
}

func (s *survey) addAddresses() {
	for i := range s.facts.Addrs {
		a := &s.facts.Addrs[i]
		u, addr := s.uplinks[a.Device], a.Prefix.Addr()
		if u != nil {
			u.leased = u.leased || addr == u.lease.Address
			if f := fwmark.FamilyOf(addr); a.Global && len(u.global[f]) < 2 {
				u.global[f] = append(u.global[f], addr)
			}
		}
		if owner := s.ownerOf(addr); owner != nil && owner != u && s.links[a.Device].VRF == "" {
			u, a = owner, owner.lend(a)
		}
		if u != nil && a.Global && !a.Unready && usable(addr) {
			u.addrs = append(u.addrs, a)
		}
	}
}

// settleVRFs takes their addresses from uplinks that are in a VRF: those are
// addresses of that VRF alone, and the kernel refuses them as the source of a
// route in any other table.
func (s *survey) settleVRFs() []error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.uplinks)) {
		if vrf := s.links[name].VRF; vrf != "" {
			u := s.uplinks[name]
			u.addrs, u.vrf = nil, true
			errs = append(errs, fmt.Errorf("uplink %q is in VRF %q, whose routes are apart from all others: "+
				"what is pinned to it is refused until it is taken out (ip link set %s nomaster)", name, vrf, name))
		}
	}
	return errs
}

func (s *survey) finish(u *found, broken bool) fwmark.Uplink {
	slices.SortFunc(u.addrs, func(a, b *Address) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
	u.Addrs = make([]netip.Addr, 0, len(u.addrs))
	for _, a := range u.addrs {
		addr := a.Prefix.Addr()
		if u.taken[addr] {
			continue
		}
		if n := len(u.Addrs); n == 0 || u.Addrs[n-1] != addr { // one address under two prefix lengths
			u.Addrs = append(u.Addrs, addr)
		}
	}
	for _, f := range fwmark.Families {
		if !u.vrf {
			s.chooseGateways(u, f, broken)
			u.Several[f] = u.Address[f].IsValid() && !slices.Equal(u.global[f], []netip.Addr{u.Address[f]})
		}
	}
	return u.Uplink
}
