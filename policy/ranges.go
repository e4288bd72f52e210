package policy

import (
	"bytes"
	"net/netip"
	"sort"

	"go4.org/netipx"

	"wg-multihome/fwmark"
)

// ranges are ranges of addresses of one family. They take 8 bytes each in IPv4
// and 32 in IPv6, where a list of netipx.IPRange has 48: a full feed is read
// into them.
//
// While prefixes come as the kernel lists them they are merged and sorted at
// once: IPv4's tables are listed by address (fib_trie), IPv6's with longer
// prefixes in front of the shorter ones that cover them (fib6_walk).
type ranges struct {
	family   fwmark.Family
	bytes    []byte // of each range its first and its last address, big-endian
	unsorted bool
}

func (r *ranges) width() int { return r.family.Bits() / 8 }

func (r *ranges) len() int { return len(r.bytes) / (2 * r.width()) }

func (r *ranges) first(i int) []byte {
	at := 2 * i * r.width()
	return r.bytes[at : at+r.width()]
}

func (r *ranges) last(i int) []byte {
	at := (2*i + 1) * r.width()
	return r.bytes[at : at+r.width()]
}

func (r *ranges) add(p netip.Prefix) {
	var first, last [16]byte
	w := r.width()
	if w == 4 {
		a := p.Addr().As4()
		copy(first[:], a[:])
	} else {
		first = p.Addr().As16()
	}
	last = first
	for i := p.Bits(); i < 8*w; i += 8 - i%8 {
		last[i/8] |= 0xff >> (i % 8)
	}
	r.addRange(first[:w], last[:w])
}

func (r *ranges) addRange(first, last []byte) {
	n := r.len()
	for n > 0 && bytes.Compare(r.first(n-1), first) >= 0 && bytes.Compare(r.last(n-1), last) <= 0 {
		n--
	}
	r.bytes = r.bytes[:2*n*r.width()]
	if n > 0 {
		switch {
		case bytes.Compare(r.first(n-1), first) > 0:
			r.unsorted = true
		case touches(r.last(n-1), first):
			if bytes.Compare(r.last(n-1), last) < 0 {
				copy(r.last(n-1), last)
			}
			return
		}
	}
	r.bytes = append(append(r.bytes, first...), last...)
}

// touches reports whether a range that begins with first overlaps or adjoins
// one that began before it and ends with last.
func touches(last, first []byte) bool {
	var next [16]byte
	n := next[:copy(next[:], last)]
	for i := len(n) - 1; i >= 0; i-- {
		n[i]++
		if n[i] != 0 {
			return bytes.Compare(first, n) <= 0
		}
	}
	return true // it ends with the last address of all
}

// Len, Less and Swap sort ranges by their first address.
func (r *ranges) Len() int           { return r.len() }
func (r *ranges) Less(i, j int) bool { return bytes.Compare(r.first(i), r.first(j)) < 0 }
func (r *ranges) Swap(i, j int) {
	for k := range r.width() {
		a, b := r.first(i), r.first(j)
		a[k], b[k] = b[k], a[k]
		a, b = r.last(i), r.last(j)
		a[k], b[k] = b[k], a[k]
	}
}

// settle merges and sorts what could not be at once.
func (r *ranges) settle() {
	if !r.unsorted {
		return
	}
	sort.Sort(r)
	sorted := ranges{family: r.family, bytes: make([]byte, 0, len(r.bytes))}
	for i := range r.len() {
		sorted.addRange(r.first(i), r.last(i))
	}
	*r = sorted
}

// contains reports whether an address is in one of the ranges, which are
// settled.
func (r *ranges) contains(a netip.Addr) bool {
	if fwmark.FamilyOf(a) != r.family {
		return false
	}
	b := a.AsSlice()
	i := sort.Search(r.len(), func(i int) bool { return bytes.Compare(r.last(i), b) >= 0 })
	return i < r.len() && bytes.Compare(r.first(i), b) <= 0
}

// prefixesOf returns the prefixes of what is in some of the lists, which are
// settled and of one family. Of more than limit ranges it returns those of the
// first limit+1.
func prefixesOf(family fwmark.Family, limit int, lists ...*ranges) []netip.Prefix {
	all := ranges{family: family}
	at := make([]int, len(lists))
	for all.len() <= limit+1 { // the last one may still grow
		next := -1
		for i, l := range lists {
			if at[i] < l.len() && (next < 0 || bytes.Compare(l.first(at[i]), lists[next].first(at[next])) < 0) {
				next = i
			}
		}
		if next < 0 {
			break
		}
		all.addRange(lists[next].first(at[next]), lists[next].last(at[next]))
		at[next]++
	}
	var prefixes []netip.Prefix
	for i := range min(all.len(), limit+1) {
		first, _ := netip.AddrFromSlice(all.first(i))
		last, _ := netip.AddrFromSlice(all.last(i))
		prefixes = netipx.IPRangeFrom(first, last).AppendPrefixes(prefixes)
	}
	return prefixes
}
