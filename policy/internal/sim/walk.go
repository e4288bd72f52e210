package sim

import (
	"net/netip"
	"syscall"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// Packet is a packet that this host sends, as the rules see it.
type Packet struct {
	Mark uint32
	Src  netip.Addr // invalid: not chosen yet
	Dst  netip.Addr
}

// Walk gets the rules one by one, as fib_rules_lookup does, and returns the
// route that the packet takes, or the error that its sender gets. Selectors
// that policy.Rule does not have are taken as matching.
func (k *Kernel) Walk(p Packet) (policy.Route, syscall.Errno) {
	rules := k.rules[fwmark.FamilyOf(p.Dst)]
	for i := 0; i < len(rules); i++ {
		r := rules[i]
		if !selects(r, p) {
			continue
		}
		switch r.Action {
		case policy.Lookup:
			route, found := k.lookup(r.Table, p.Dst)
			switch {
			case !found:
			case route.Type == policy.UnreachableRoute:
				return policy.Route{}, syscall.EHOSTUNREACH // suppresses nothing: only what leads somewhere is looked at
			case r.Suppresses && route.Dst.Bits() <= int(r.Suppress):
			default:
				return route, Done
			}
		case policy.Goto:
			i = target(rules, i, r.Table)
		case policy.Blackhole:
			return policy.Route{}, syscall.EINVAL
		case policy.Prohibit:
			return policy.Route{}, syscall.EACCES
		case policy.Unreachable:
			return policy.Route{}, syscall.ENETUNREACH
		}
	}
	return policy.Route{}, syscall.ENETUNREACH
}

// target returns the index before the first rule at priority; without one the
// goto at index i does nothing.
func target(rules []policy.Rule, i int, priority uint32) int {
	for j, r := range rules {
		if r.Priority == priority {
			return j - 1
		}
	}
	return i
}

// selects is fib_rule_match, for what has no incoming interface but lo and is
// bound to no device. What the rule selects by beside what is known is taken as
// matching, under `not` as not matching.
func selects(r policy.Rule, p Packet) bool {
	src := p.Src
	if !src.IsValid() {
		src = fwmark.FamilyOf(p.Dst).Unspecified()
	}
	match := (r.Iif == "" || r.Iif == "lo") && r.Oif == "" && (p.Mark^r.Mark.Value)&r.Mark.Mask == 0 &&
		(!r.From.IsValid() || r.From.Contains(src)) && (!r.To.IsValid() || r.To.Contains(p.Dst))
	return match != r.Invert || r.Opaque && r.Invert
}

// lookup returns the route of a table with the longest prefix, and of those
// the one with the lowest metric.
func (k *Kernel) lookup(table uint32, dst netip.Addr) (policy.Route, bool) {
	var best policy.Route
	found := false
	for _, r := range k.routes {
		if r.Table != table || r.Family != fwmark.FamilyOf(dst) || !r.Dst.Contains(dst) {
			continue
		}
		longer := !found || r.Dst.Bits() > best.Dst.Bits()
		if longer || r.Dst == best.Dst && r.Metric < best.Metric {
			best, found = r, true
		}
	}
	return best, found
}
