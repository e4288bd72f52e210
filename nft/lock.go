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

// Tunnel kinds: what leads to elsewhere though it is no uplink. "tun" has tap
// devices in it, and OpenVPN's and wireguard-go's.
var tunnelKinds = [...]string{"tun", "wireguard"}

// IsTunnel reports whether a device of that kind is one that the lock watches
// though it is no uplink.
func IsTunnel(kind string) bool { return slices.Contains(tunnelKinds[:], kind) }

// onLink are destinations that stay on the link that they are sent by.
var onLink = [...]netip.Prefix{
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("fe80::/10"),
}

// lock drops what carries a mark and leaves by an uplink or a tunnel that is
// not its own, but for what lies behind that device by a longer route, as the
// rules have it too. The rules are the first lock; others can delete them, and
// a socket that is bound to a device goes past them.
//
// It stands in postrouting, behind everything that may set a mark there, and
// before NAT. By kind it holds tunnels that come up before any run of ours.
func (w *wanter) lock() {
	entry := []Rule{{{Kind: MetaMark, Mark: fwmark.Mark{Mask: fwmark.FullMask}}, {Kind: Accept}}}
	// Of marks that one packet can have, that under more bits says more.
	pins := slices.Concat(w.facts.Pins, w.facts.Going)
	slices.SortStableFunc(pins, func(a, b fwmark.Pin) int {
		return cmp.Compare(bits.OnesCount32(b.Mark.Mask), bits.OnesCount32(a.Mark.Mask))
	})
	for _, p := range pins {
		entry = append(entry, Rule{{Kind: MetaMark, Mark: p.Mark}, {Kind: Goto, Name: lockChain(p.Mark, p.Full)}})
		w.out.Counters = append(w.out.Counters, LockCounter(p.Mark))
	}
	w.chain("lock", Base{"filter", "postrouting", prioritySNAT - 10}, entry...)
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

// exemptChain tells for all marks what they may leave by another uplink or a
// tunnel for: what comes back from it is dropped.
const exemptChain = "lock_exempt"

// lockOf makes the chain of a mark. What all marks have alike is not in it: the
// lock of many marks and uplinks would be as large as their product.
func (w *wanter) lockOf(p fwmark.Pin) {
	var rules []Rule
	if p.Uplink != "" {
		rules = append(rules, own(p.Uplink))
	}
	rules = append(rules, Rule{{Kind: Jump, Name: exemptChain}}, Rule{{Kind: Count, Name: LockCounter(p.Mark)}, {Kind: Drop}})
	w.chain(lockChain(p.Mark, p.Full), Base{}, rules...)
}

// held are the devices that the lock holds by name: the uplinks, those of all
// marks among them, and while the configuration has an error those that it holds as it
// stands, as they may be uplinks by what cannot be read.
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
		if len(c.Devices) > 0 && c.Fingerprints[0] == own(c.Devices[0]).Fingerprint() {
			claim.Uplink = c.Devices[0]
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

// exempt lets through what stays on its link, what lies behind the device that
// it leaves by, and what leaves by a device that is not held.
func (w *wanter) exempt() {
	var rules []Rule
	for _, p := range onLink {
		rules = append(rules, Rule{{Kind: To, Prefix: p}, {Kind: Accept}})
	}
	devices := slices.SortedFunc(slices.Values(w.facts.Devices), func(a, b Device) int { return strings.Compare(a.Name, b.Name) })
	for _, d := range devices {
		out := Expr{Kind: OutDevice, Name: d.Name}
		if d.LeftOut() {
			rules = append(rules, Rule{out, {Kind: Accept}})
			continue
		}
		for family, ranges := range merged(beyond(d.Prefixes)) {
			if len(ranges) == 0 {
				continue
			}
			f := fwmark.Family(family)
			set := Set{Name: viaSet(f, d.Name), Type: Prefixes, Family: f, Ranges: ranges}
			w.out.Sets = append(w.out.Sets, set)
			rules = append(rules, Rule{out, {Kind: ToSet, Family: f, Name: set.Name}, {Kind: Accept}})
		}
	}
	for _, name := range w.held() {
		rules = append(rules, hold(name))
	}
	for _, kind := range tunnelKinds {
		rules = append(rules, Rule{{Kind: OutKind, Name: kind}, {Kind: Return}})
	}
	rules = append(rules, Rule{{Kind: Accept}})
	w.chain(exemptChain, Base{}, rules...)
}

// viaSet names the set of what lies behind a device.
func viaSet(f fwmark.Family, device string) string { return setName("via"+f.String()+"_", device) }

// Unknown returns what lies behind a device and is not let through by the lock
// as it stands.
func Unknown(have State, d Device) []netip.Prefix {
	if _, stands := have.Chains[exemptChain]; !stands || d.LeftOut() {
		return nil
	}
	return slices.DeleteFunc(beyond(d.Prefixes), func(p netip.Prefix) bool {
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
