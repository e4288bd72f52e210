package nft

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"wg-multihome/fwmark"
)

// tunnelKinds are the kinds of devices that lead elsewhere though they are no
// uplinks. "tun" are tap devices, too, and those of OpenVPN and wireguard-go; "ovpn"
// are OpenVPN's in the kernel, of Linux 6.16 and before that ("ovpn-dco");
// "amneziawg" is WireGuard with its packets disguised.
var tunnelKinds = [...]string{"amneziawg", "ovpn", "ovpn-dco", "tun", "wireguard"}

// IsTunnel reports whether a device of that kind is a tunnel: by it the lock lets
// only those private destinations through that a route leads there.
func IsTunnel(kind string) bool { return slices.Contains(tunnelKinds[:], kind) }

// onLink are destinations that stay on the link that they are sent by.
var onLink = [...]netip.Prefix{
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("fe80::/10"),
}

// lockName is the chain that the lock begins with.
const lockName = "lock"

// unmarkedPass lets through what has no mark, most packets of most hosts.
var unmarkedPass = Rule{{Kind: MetaMark, Mark: fwmark.Mark{Mask: fwmark.FullMask}}, {Kind: Accept}}

// lock drops what carries a mark and does not leave by its own uplink, but for
// what lies behind the device that it leaves by, as the rules have it too. The
// rules are the first lock; others can delete them, and a socket that is bound
// to a device goes past them.
//
// It stands in postrouting, behind everything that may set a mark there, and
// behind NAT: it sees the source that a packet leaves with. It holds devices that
// it has not seen: at boot none is there yet when systemd-networkd deletes the
// rules, and what comes later may be an uplink.
//
// While connections have marks, a packet of one is held by that mark too: a rule of
// others may have taken its own mark off on the way here.
func (w *wanter) lock() {
	none := unmarkedPass
	if len(w.keeping) > 0 {
		none = slices.Insert(slices.Clone(none), 1, Expr{Kind: CtMark, Mark: w.bits()})
	}
	entry := []Rule{none}
	// Of marks that one packet can have, that under more bits says more.
	pins := slices.Concat(w.facts.Pins, w.facts.Going)
	slices.SortStableFunc(pins, func(a, b fwmark.Pin) int {
		return cmp.Compare(bits.OnesCount32(b.Mark.Mask), bits.OnesCount32(a.Mark.Mask))
	})
	for _, p := range pins {
		entry = append(entry, Rule{{Kind: MetaMark, Mark: p.Mark}, {Kind: Goto, Name: lockChain(p.Mark, p.Full)}})
		w.out.Counters = append(w.out.Counters, LockCounter(p.Mark))
	}
	for _, p := range pins {
		if w.keeps(p.Mark) && !p.Full {
			entry = append(entry, Rule{{Kind: CtMark, Mark: p.Mark}, {Kind: Original}, {Kind: Goto, Name: lockChain(p.Mark, p.Full)}})
		}
	}
	w.chain(lockName, Base{"filter", "postrouting", prioritySNAT + 1}, entry...)
	w.exempt()
	for _, p := range pins {
		w.lockOf(p)
	}
}

// What names of chains of one mark begin with: of a configured one, and of one
// that a full tunnel keeps. Only the name tells, once the tunnel is gone, that
// its mark was never a configured one.
const (
	lockPrefix   = "lock_"
	tunnelPrefix = "tunnel_"
)

// lockChain names the chain of a mark. Two marks may have one value: while the
// configuration has an error, one that stands is kept beside its successor.
func lockChain(m fwmark.Mark, full bool) string {
	if full {
		return tunnelPrefix + m.String()
	}
	return lockPrefix + m.String()
}

// markOf is the reverse of lockChain.
func markOf(chain string) (m fwmark.Mark, full, ok bool) {
	text, full := strings.CutPrefix(chain, tunnelPrefix)
	m, err := fwmark.Parse(strings.TrimPrefix(text, lockPrefix))
	return m, full, err == nil && chain == lockChain(m, full)
}

// exemptChain accepts what packets of any mark may be sent to by other devices than
// their own uplink. What returns from it is dropped.
const exemptChain = "lock_exempt"

// lockOf makes the chain of a mark. What is the same for all marks is in
// exemptChain: in each of these it would make a lock as large as the product of
// marks and uplinks.
//
// By its own uplink, a connection that was answered passes at once, and so does UDP
// that has begun. One that begins
// is told how large its segments may be, and is dropped without a source of that
// uplink: `masquerade` takes another interface's where there is none, which happens
// in IPv6 between the loss of the address and the removal of the mark's table.
func (w *wanter) lockOf(p fwmark.Pin) {
	var rules []Rule
	if p.Uplink != "" {
		by := Expr{Kind: OutDevice, Name: p.Uplink}
		of := Expr{Kind: CtMark, Mark: p.Mark}
		if w.keeps(p.Mark) {
			rules = append(rules, Rule{by, of, {Kind: Established}, {Kind: Accept}}, Rule{by, of, {Kind: UDP}, {Kind: Confirmed}, {Kind: Accept}})
			rules = append(rules, w.fitting(p, true)...)
		}
		if w.keeps(p.Mark) || w.facts.Sockets[p.Mark] {
			rules = append(rules, w.foreignSources(p)...)
		}
		if w.keeps(p.Mark) {
			rules = append(rules, Rule{by, {Kind: Confirmed}, {Kind: Accept}})
			for _, f := range fwmark.Families {
				if a := w.snat(p.Uplink, f); a.IsValid() { // another interface may have it
					rules = append(rules, Rule{by, {Kind: From, Prefix: alone(a)}, {Kind: Accept}})
				}
			}
			rules = append(rules, Rule{by, of, {Kind: FromOther}, {Kind: Drop}})
		}
		rules = append(rules, own(p.Uplink))
	}
	rules = append(rules, Rule{{Kind: Jump, Name: exemptChain}}, Rule{{Kind: Count, Name: LockCounter(p.Mark)}, {Kind: Drop}})
	w.chain(lockChain(p.Mark, p.Full), Base{}, rules...)
}

// foreignSources drops what this host sends by a mark's own uplink with a source
// that is another uplink's: a marked socket that is bound to it, or a connection
// that conntrack does not know, and so does not translate. Who has an address is
// told by sets, so that what is on no uplink passes, and one that comes. What others
// forward with our mark is theirs.
func (w *wanter) foreignSources(p fwmark.Pin) (rules []Rule) {
	for family, ranges := range merged(w.addressesOfOthers(p.Uplink)) {
		if len(ranges) == 0 {
			continue
		}
		f := fwmark.Family(family)
		set := Set{Name: setName("others"+f.String()+"_", p.Uplink), Type: Prefixes, Family: f, Ranges: ranges}
		w.set(set)
		rules = append(rules, Rule{{Kind: OutDevice, Name: p.Uplink}, {Kind: FromSet, Family: f, Name: set.Name}, {Kind: FromHere},
			{Kind: Count, Name: LockCounter(p.Mark)}, {Kind: Drop}})
	}
	return rules
}

// addressesOfOthers returns the addresses of the other uplinks.
func (w *wanter) addressesOfOthers(uplink string) (prefixes []netip.Prefix) {
	own := w.uplinks[uplink]
	for _, u := range w.facts.Uplinks {
		for _, a := range u.Addrs {
			if u.Name != uplink && a != own.Address[fwmark.FamilyOf(a)] {
				prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	return prefixes
}

// held are the devices that the lock holds by name: the uplinks, and those of
// marks. While the configuration has an error, so are those that the lock as it
// stands holds: what cannot be read may make uplinks of them.
func (w *wanter) held() []string {
	var names []string
	for _, u := range w.facts.Uplinks {
		names = append(names, u.Name)
	}
	for _, p := range slices.Concat(w.facts.Pins, w.facts.Going) {
		if p.Uplink != "" {
			names = append(names, p.Uplink)
		}
	}
	if w.facts.Broken {
		names = append(names, w.facts.Have.Locked()...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Locked returns the devices that the lock holds by name as it stands, or lets
// through as some mark's own. A lock of earlier versions names them in each
// mark's chain.
func (s State) Locked() []string {
	var names []string
	for name, c := range s.Chains {
		if _, _, ok := markOf(name); ok {
			names = append(names, c.Devices...)
		}
	}
	exempt := s.Chains[exemptChain]
	for _, device := range exempt.Devices {
		if slices.Contains(exempt.Fingerprints, hold(device).Fingerprint()) {
			names = append(names, device)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Claims returns the marks that the lock holds as it stands, each with its own
// uplink: others may have deleted the rules that say so, too.
func (s State) Claims() []fwmark.Claim {
	var claims []fwmark.Claim
	for name, c := range s.Chains {
		m, full, ok := markOf(name)
		if !ok {
			continue
		}
		claim := fwmark.Claim{Mark: m, Full: full}
		if i := slices.IndexFunc(c.Devices, func(d string) bool { return slices.Contains(c.Fingerprints, own(d).Fingerprint()) }); i >= 0 {
			claim.Uplink = c.Devices[i]
		}
		claims = append(claims, claim)
	}
	slices.SortFunc(claims, func(a, b fwmark.Claim) int { return a.Mark.Compare(b.Mark) })
	return claims
}

// own lets through what leaves by the mark's own uplink.
func own(uplink string) Rule { return Rule{{Kind: OutDevice, Name: uplink}, {Kind: Accept}} }

// hold gives what leaves by the device back to the chain of its mark.
func hold(device string) Rule { return Rule{{Kind: OutDevice, Name: device}, {Kind: Return}} }

// exempt lets through what stays on this host or on its link, what lies behind
// the device that it leaves by, and private destinations by a device that is
// neither an uplink nor a tunnel: bridges and container networks that came after
// the last run. A device without a kind is no tunnel.
func (w *wanter) exempt() {
	rules := []Rule{{{Kind: OutDevice, Name: "lo"}, {Kind: Accept}}}
	for _, p := range onLink {
		rules = append(rules, Rule{{Kind: To, Prefix: p}, {Kind: Accept}})
	}
	held := w.held()
	devices := slices.SortedFunc(slices.Values(w.facts.Devices), func(a, b Device) int { return strings.Compare(a.Name, b.Name) })
	for _, d := range devices {
		rules = append(rules, w.behind(d, d.Tunnel || slices.Contains(held, d.Name))...)
	}
	for _, name := range held {
		rules = append(rules, hold(name))
	}
	for _, kind := range tunnelKinds {
		rules = append(rules, Rule{{Kind: OutKind, Name: kind}, {Kind: Return}})
	}
	for _, p := range fwmark.PrivatePrefixes {
		rules = append(rules, Rule{{Kind: To, Prefix: p}, {Kind: Accept}})
	}
	w.chain(exemptChain, Base{}, rules...)
}

// behind lets through what lies behind a device; of one that is not held, what
// is not private: the rest passes in any case.
func (w *wanter) behind(d Device, held bool) (rules []Rule) {
	for family, ranges := range merged(d.exempt(held)) {
		if len(ranges) == 0 {
			continue
		}
		f := fwmark.Family(family)
		set := Set{Name: viaSet(f, d.Name), Type: Prefixes, Family: f, Ranges: ranges}
		w.out.Sets = append(w.out.Sets, set)
		rules = append(rules, Rule{{Kind: OutDevice, Name: d.Name}, {Kind: ToSet, Family: f, Name: set.Name}, {Kind: Accept}})
	}
	return rules
}

// exempt returns those prefixes behind a device that take a rule of their own.
func (d Device) exempt(held bool) []netip.Prefix {
	left := d.LeftOut()
	return slices.DeleteFunc(beyond(d.Prefixes), func(p netip.Prefix) bool {
		private := fwmark.IsPrivate(p)
		return private && !held || !private && left
	})
}

// viaSet names the set of what lies behind a device.
func viaSet(f fwmark.Family, device string) string { return setName("via"+f.String()+"_", device) }

// Unknown returns what lies behind a device and is not let through by the lock
// as it stands.
func Unknown(have State, d Device) []netip.Prefix {
	if _, stands := have.Chains[exemptChain]; !stands {
		return nil
	}
	held := d.Tunnel || slices.Contains(have.Locked(), d.Name)
	return slices.DeleteFunc(d.exempt(held), func(p netip.Prefix) bool {
		return covers(have.Sets[viaSet(fwmark.FamilyOf(p.Addr()), d.Name)].Ranges, p)
	})
}

// covers reports whether a prefix is inside one of the ranges, which are merged
// and sorted.
func covers(ranges []netipx.IPRange, p netip.Prefix) bool {
	i, _ := slices.BinarySearchFunc(ranges, p.Addr(), func(r netipx.IPRange, a netip.Addr) int { return r.To().Compare(a) })
	return i < len(ranges) && ranges[i].Contains(p.Addr()) && ranges[i].Contains(netipx.PrefixLastIP(p))
}

// beyond leaves out what stays on its link in any case.
func beyond(prefixes []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(prefixes), func(p netip.Prefix) bool {
		return slices.ContainsFunc(onLink[:], func(l netip.Prefix) bool { return l.Bits() <= p.Bits() && l.Contains(p.Addr()) })
	})
}
