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
	all := make([]*Address, 0, len(s.facts.Addrs))
	for _, u := range s.uplinks {
		all = append(all, u.addrs...)
	}
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
		if len(addrs) == 1 {
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

// settleForeign takes addresses whose table's number others use for routes by
// another device from their uplinks. A DHCP server can choose such an address: our
// route would replace a VPN's default, or pinned packets follow it.
func (s *survey) settleForeign() []error {
	byTable := map[tableKey]*Address{}
	for _, u := range s.uplinks {
		for _, a := range u.addrs {
			byTable[tableKey{fwmark.FamilyOf(a.Prefix.Addr()), TableOf(a.Prefix.Addr())}] = a
		}
	}
	var errs []error
	for i := range s.facts.Routes {
		r := &s.facts.Routes[i]
		a := byTable[r.tableKey()]
		if a == nil || r.Ours() || r.Device == "" || r.Device == a.Device || s.uplinks[a.Device].taken[a.Prefix.Addr()] {
			continue
		}
		s.take(a)
		errs = append(errs, fmt.Errorf("address %s of uplink %q has no source rule: its table %d is another program's (`%s`)", a.Prefix.Addr(), a.Device, r.Table, r))
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
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
