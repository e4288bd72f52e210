package policy

import (
	"encoding/binary"
	"iter"
	"net/netip"

	"wg-multihome/fwmark"
)

// index finds the elements of a list that have a key in common. Rules as keys of
// a map themselves would be hashed and kept whole, 136 bytes of each.
type index[K comparable] struct {
	first map[K]int32 // the place of the first element, counted from 1
	next  []int32     // that of the next one, by place; 0: there is none
}

func indexOf[T any, K comparable](list []T, key func(*T) K) index[K] {
	x := index[K]{make(map[K]int32, len(list)), make([]int32, len(list))}
	for i := len(list) - 1; i >= 0; i-- {
		k := key(&list[i])
		x.next[i] = x.first[k]
		x.first[k] = int32(i + 1)
	}
	return x
}

// add puts an element at the end of the list, in front of those with its key.
func (x *index[K]) add(k K) {
	x.next = append(x.next, x.first[k])
	x.first[k] = int32(len(x.next))
}

// places yields where the elements with a key stand in the list, in order.
func (x index[K]) places(k K) iter.Seq[int] {
	return func(yield func(int) bool) {
		for at := x.first[k]; at != 0 && yield(int(at-1)); at = x.next[at-1] {
		}
	}
}

// ruleKey is the same for equal rules, and mostly another for others.
type ruleKey struct{ place, selector uint64 }

func (r *Rule) key() ruleKey {
	k := ruleKey{uint64(r.Priority)<<32 | uint64(r.Table), uint64(r.Mark.Value)<<32 | uint64(r.Action)<<8 | uint64(r.Family)}
	if r.From.IsValid() {
		b := r.From.Addr().As16()
		for i, octet := range b[8:] {
			k.selector ^= uint64(octet) << (8 * i)
		}
	}
	return k
}

// ruleSet answers which rules there are.
type ruleSet struct {
	rules []Rule
	index index[ruleKey]
}

func ruleSetOf(rules []Rule) ruleSet { return ruleSet{rules, indexOf(rules, (*Rule).key)} }

func (s ruleSet) has(r *Rule) bool {
	for i := range s.index.places(r.key()) {
		if s.rules[i] == *r {
			return true
		}
	}
	return false
}

// tableKey names a routing table.
type tableKey struct {
	family fwmark.Family
	table  uint32
}

func (r *Route) tableKey() tableKey { return tableKey{r.Family, r.Table} }

// slotKey is the same for routes to one destination in a table, and mostly another
// for others.
type slotKey struct{ table, dst uint64 }

func (r *Route) slotKey() slotKey { return slotOf(r.tableKey(), r.Dst) }

func slotOf(k tableKey, dst netip.Prefix) slotKey {
	b := dst.Addr().As16()
	first, last := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	return slotKey{uint64(k.family)<<40 | uint64(k.table)<<8 | uint64(dst.Bits()), first ^ last}
}

// routeTables answers which routes a table has to a destination.
type routeTables struct {
	routes []Route
	index  index[slotKey]
}

func routeTablesOf(routes []Route) routeTables {
	return routeTables{routes, indexOf(routes, (*Route).slotKey)}
}

// of yields the routes with a key: those to a destination in a table, and rarely
// others.
func (t routeTables) of(k slotKey) iter.Seq[*Route] {
	return func(yield func(*Route) bool) {
		for i := range t.index.places(k) {
			if !yield(&t.routes[i]) {
				return
			}
		}
	}
}

// leadThrough reports whether a table has a default through a device.
func (t routeTables) leadThrough(k tableKey, device string) bool {
	for r := range t.of(slotOf(k, netip.PrefixFrom(k.family.Unspecified(), 0))) {
		if r.isDefault() && r.tableKey() == k && r.Device == device {
			return true
		}
	}
	return false
}

// have reports whether there is a route that is the same to us.
func (t routeTables) have(r *Route) bool {
	for o := range t.of(r.slotKey()) {
		if o.same(*r) {
			return true
		}
	}
	return false
}
