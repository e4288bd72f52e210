package nft

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"wg-multihome/fwmark"
)

// Facts is what the table is made from.
type Facts struct {
	Uplinks []fwmark.Uplink
	Pins    []fwmark.Pin      // every mark in force
	Going   []fwmark.Pin      // marks that go: the lock holds them until their guards are gone, and nothing gets them any more
	Leaving []fwmark.Pin      // marks that no new connection gets, and that those keep that have them
	Devices []Device          // those that something lies behind
	Leased  bool              // an uplink holds an IPv4 lease, whose address is on it
	Reach   [2][]netip.Prefix // by Family: what is reached without an uplink's table

	Cgroups map[string]Cgroup        // by path, those that exist now
	Runs    map[fwmark.Mark][]Cgroup // slices of `run` that hold a cgroup, by mark
	Unseen  bool                     // some of that could not be read: no cgroup that stands goes

	// Sockets are the marks that sockets of services have from the start: their
	// packets have whatever source these are bound to.
	Sockets map[fwmark.Mark]bool

	// Strict are the uplinks whose rp_filter is: answers to translated connections
	// pass it by their mark alone.
	Strict map[string]bool

	// Unguarded are the marks whose unreachable rules do not stand: nothing
	// gets such a mark that does not have it.
	Unguarded map[fwmark.Mark]bool

	// Broken says that the configuration has an error: nothing that stands
	// goes for being configured no longer.
	Broken bool

	Have State
}

// Cgroup is a cgroup as it is now.
type Cgroup struct {
	ID    uint64 // the directory's inode: another one when it is made anew
	Level int    // 1 for those right below the root
}

// Device is a network interface.
type Device struct {
	Name     string
	Tunnel   bool           // it has a kind that tunnels have
	Prefixes []netip.Prefix // what lies behind it by a route longer than /1, and its broadcast addresses
}

// MaxRanges bounds how many ranges of addresses our sets hold. More of them, as
// with a full feed, are most of the world: the second lock lets nothing but
// private destinations pass by a device with so many behind it, and where main
// has so many no connection is reset.
const MaxRanges = 4096

// LeftOut reports whether the second lock knows of what lies behind a device its
// private part alone, as it leads to too many ranges.
func (d Device) LeftOut() bool {
	r := merged(d.Prefixes)
	return len(r[fwmark.IPv4])+len(r[fwmark.IPv6]) > MaxRanges
}

// Want decides what is to stand in the table. It has up to three parts: the
// second lock while there is a mark, renewals while there is a lease and a
// second uplink, services while some mark has a cgroup or could have one.
func Want(f Facts) Ruleset {
	w := wanter{facts: f, uplinks: map[string]fwmark.Uplink{}}
	for _, u := range f.Uplinks {
		w.uplinks[u.Name] = u
	}
	pins := w.withSets()
	w.keeping = byValue(slices.Concat(pins, f.Leaving))
	if len(f.Pins)+len(f.Going) > 0 {
		w.lock()
	}
	w.renewals()
	if len(w.keeping) > 0 {
		w.services(pins)
	}
	slices.Sort(w.out.Counters)
	w.out.Counters = slices.Compact(w.out.Counters)
	slices.SortFunc(w.out.Sets, func(a, b Set) int { return strings.Compare(a.Name, b.Name) })
	return w.out
}

type wanter struct {
	facts   Facts
	uplinks map[string]fwmark.Uplink // by name
	keeping []fwmark.Pin             // those whose connections have their marks
	out     Ruleset
}

func (w *wanter) chain(name string, base Base, rules ...Rule) {
	w.out.Chains = append(w.out.Chains, Chain{Name: name, Base: base, Rules: rules})
}

const renewalsChain = "renewals"

// renewals gives DHCP's own unicast renewals their lease's address for a
// source. Clients send them from an unbound socket, so they leave by main's
// default, and with two modems of one ISP one of the leases is lost each time.
// They are told by BOOTP's ciaddr: source and interface are what is wrong. It is
// the client's own address, RFC 2131, 4.3.2, so the rule names none, and a lease
// with another address changes nothing here: to delete a rule has the process wait
// for an RCU grace period at its end, which is longer than all else that a lease
// takes. Before conntrack, or the answers would be taken for new connections.
func (w *wanter) renewals() {
	if len(w.facts.Uplinks) < 2 || !w.facts.Leased {
		return
	}
	w.chain(renewalsChain, Base{"route", "output", priorityRaw}, Rule{{Kind: Renewal}, {Kind: SetSource}})
}

// merged returns the prefixes of each family as ranges, merged and sorted: the
// kernel refuses intervals that overlap.
func merged(prefixes []netip.Prefix) [2][]netipx.IPRange {
	var builders [2]netipx.IPSetBuilder
	for _, p := range prefixes {
		builders[fwmark.FamilyOf(p.Addr())].AddPrefix(p)
	}
	var ranges [2][]netipx.IPRange
	for i := range builders {
		if set, err := builders[i].IPSet(); err == nil { // its errors are about invalid prefixes
			ranges[i] = set.Ranges()
		}
	}
	return ranges
}

// setName makes a set's name of a device's. What nft cannot read in a name is
// written in hexadecimal, so that its output can be loaded again.
func setName(prefix, device string) string {
	const hex = "0123456789abcdef"
	b := []byte(prefix)
	for i := range len(device) {
		c := device[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_' {
			b = append(b, c)
		} else {
			b = append(b, '/', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

// byMark names what belongs to a mark: by the value alone, which is what a
// person writes into NFTSet=.
func byMark(prefix string, m fwmark.Mark) string {
	return prefix + fwmark.Mark{Value: m.Value, Mask: fwmark.FullMask}.String()
}

// MarkSet is the name of the set of a mark that belongs to others.
func MarkSet(m fwmark.Mark) string { return byMark(publicPrefix, m) }

// PathsSet is the name of the set of a mark that holds the configured cgroups.
func PathsSet(m fwmark.Mark) string { return byMark(pathsPrefix, m) }

// LockCounter is the name of the counter of what the second lock drops.
func LockCounter(m fwmark.Mark) string { return byMark("lock_", m) }

func sortedIDs(ids []uint64) []uint64 {
	slices.SortFunc(ids, cmp.Compare)
	return slices.Compact(ids)
}

// set adds a set, unless it is there.
func (w *wanter) set(s Set) {
	if !slices.ContainsFunc(w.out.Sets, func(o Set) bool { return o.Name == s.Name }) {
		w.out.Sets = append(w.out.Sets, s)
	}
}
