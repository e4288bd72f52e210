package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"wg-multihome/fwmark"
)

// settleShared has each table serve one address of one uplink, and takes the
// other addresses of that table's number from their uplinks. By source, packets
// of two uplinks that have one address cannot be told apart (modems hand out
// 192.168.8.100 each); and two IPv6 addresses may, by chance, have the same table
// (see TableOf). By mark they can: the others' marks have a table of their own.
//
// An address stays with the uplink that has it now: its table leads there, with
// that source. So no DHCP server takes it from there by leasing it to another
// one. Where none has it, it is one that has a mark, else the first one by name.
func (s *survey) settleShared() []error {
	all := s.addresses()
	byTable := indexOf(all, func(a **Address) uint32 { return TableOf((*a).Prefix.Addr()) })
	var errs []error
	var addrs []*Address
	for table := range byTable.first {
		addrs = addrs[:0]
		for i := range byTable.places(table) {
			addrs = append(addrs, all[i])
		}
		slices.SortFunc(addrs, s.compareOwners)
		addrs = slices.CompactFunc(addrs, sameOwner) // one address under two prefix lengths
		if len(addrs) == 1 || s.isTaken(addrs[0]) {  // others have the table
			continue
		}
		for _, a := range addrs[1:] {
			s.take(a)
		}
		errs = append(errs, sharedError(table, addrs))
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}

// take has an address be without its table: its uplink's mark has one by the
// uplink's name.
func (s *survey) take(a *Address) {
	u := s.uplinks[a.Device]
	if u.taken == nil {
		u.taken = map[netip.Addr]bool{}
	}
	u.taken[a.Prefix.Addr()] = true
}

func (s *survey) isTaken(a *Address) bool { return s.uplinks[a.Device].taken[a.Prefix.Addr()] }

// addresses returns those of all uplinks.
func (s *survey) addresses() []*Address {
	all := make([]*Address, 0, len(s.facts.Addrs))
	for _, u := range s.uplinks {
		all = append(all, u.addrs...)
	}
	return all
}

// settleForeign takes addresses whose table's number others use for routes by a
// device that is no uplink from their uplinks. A DHCP server can choose such an
// address: our route would replace a VPN's default, or pinned packets follow it.
// What leads by an uplink, or stands beside the original shell script's look-up, is
// the script's, of an address that may have moved.
func (s *survey) settleForeign() []error {
	all := s.addresses()
	byTable := indexOf(all, func(a **Address) tableKey {
		return tableKey{fwmark.FamilyOf((*a).Prefix.Addr()), TableOf((*a).Prefix.Addr())}
	})
	var errs []error
	for i := range s.facts.Routes {
		r := &s.facts.Routes[i]
		if r.Ours() || r.Device == "" || s.uplinks[r.Device] != nil {
			continue
		}
		for at := range byTable.places(r.tableKey()) {
			if a := all[at]; !s.isTaken(a) && !s.hasScriptLookup(a.Prefix.Addr()) {
				s.take(a)
				errs = append(errs, fmt.Errorf("address %s of uplink %q has no source rule: its table %d is another program's (`%s`)", a.Prefix.Addr(), a.Device, r.Table, r))
			}
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}

// settleTwins takes addresses whose table's number an uplink's mark may have by the
// uplink's name from their uplinks. Of an IPv6 address a DHCP server can choose
// it: such a mark would be led as that server wants.
func (s *survey) settleTwins() []error {
	byTable := make(map[uint32]string, len(s.uplinks))
	for name := range s.uplinks {
		byTable[twinTable(name)] = name
	}
	var errs []error
	for _, a := range s.addresses() {
		if name := byTable[TableOf(a.Prefix.Addr())]; name != "" && !s.isTaken(a) {
			s.take(a)
			errs = append(errs, fmt.Errorf("address %s of uplink %q has no source rule: its table %d is kept for uplink %q",
				a.Prefix.Addr(), a.Device, TableOf(a.Prefix.Addr()), name))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}

// hasScriptLookup reports whether the original shell script's look-up of an
// address stands, or stood.
func (s *survey) hasScriptLookup(a netip.Addr) bool {
	is := func(r Rule) bool { return likeScriptLookup(r) && r.sourced() && r.From.Addr() == a }
	return slices.ContainsFunc(s.facts.Rules, is) || slices.ContainsFunc(s.facts.ScriptRules, is)
}

// compareOwners orders addresses of one table: the one that keeps it is first.
func (s *survey) compareOwners(a, b *Address) int {
	first := func(a, b bool) int {
		switch {
		case a == b:
			return 0
		case a:
			return -1
		}
		return 1
	}
	now := func(a *Address) bool {
		addr := a.Prefix.Addr()
		r := s.own.of(fwmark.FamilyOf(addr), TableOf(addr))
		return a.Device == r.Device && addr == r.Src
	}
	return cmp.Or(
		first(!s.isTaken(a), !s.isTaken(b)),
		first(now(a), now(b)),
		first(s.uplinks[a.Device].marked, s.uplinks[b.Device].marked),
		cmp.Compare(a.Device, b.Device),
		a.Prefix.Addr().Compare(b.Prefix.Addr()),
	)
}

func sameOwner(a, b *Address) bool {
	return a.Device == b.Device && a.Prefix.Addr() == b.Prefix.Addr()
}

// sharedError names all that share a table. The first one keeps it.
func sharedError(table uint32, addrs []*Address) error {
	keeper := addrs[0]
	var uplinks, each []string
	one := true
	for _, a := range addrs {
		uplinks = append(uplinks, strconv.Quote(a.Device))
		each = append(each, fmt.Sprintf("%s of uplink %q", a.Prefix.Addr(), a.Device))
		one = one && a.Prefix.Addr() == keeper.Prefix.Addr()
	}
	if one {
		slices.Sort(uplinks)
		return fmt.Errorf("address %s is on uplinks %s, which cannot be told apart by source: %q keeps it",
			keeper.Prefix.Addr(), strings.Join(uplinks, " and "), keeper.Device)
	}
	slices.Sort(each)
	return fmt.Errorf("addresses %s share table %d: uplink %q keeps it for %s",
		strings.Join(each, " and "), table, keeper.Device, keeper.Prefix.Addr())
}
