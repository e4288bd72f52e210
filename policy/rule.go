package policy

import (
	"net/netip"

	"wg-multihome/fwmark"
)

// Tables of the kernel, linux/rtnetlink.h.
const (
	TableDefault = 253
	TableMain    = 254
	TableLocal   = 255
)

// Action is what a rule does, FR_ACT_* of linux/fib_rules.h.
type Action uint8

// The actions that the kernel knows.
const (
	Lookup      Action = 1
	Goto        Action = 2
	Nop         Action = 3
	Blackhole   Action = 6
	Unreachable Action = 7
	Prohibit    Action = 8
)

// Rule is a policy routing rule, ip-rule(8). Two rules are one to the kernel
// when all fields are equal, protocol included. To delete one of two that differ
// in what they suppress alone, the one that suppresses less, is to delete the first
// of them: that nothing is suppressed cannot be said (rule_find of
// net/core/fib_rules.c).
type Rule struct {
	Family   fwmark.Family
	Priority uint32
	Mark     fwmark.Mark  // Mask 0: any mark
	From     netip.Prefix // invalid: any source
	To       netip.Prefix // invalid: any destination
	Iif, Oif string
	Invert   bool // `not`: the selectors together
	Action   Action
	Table    uint32 // of Lookup; the target's priority for Goto

	Suppresses bool // a result from a route of length Suppress or shorter is ignored
	Suppress   uint32

	SuppressesGroup bool // a result from a route through a device of link group SuppressGroup is ignored, too
	SuppressGroup   uint32

	Protocol uint8

	// Opaque says that the rule has attributes that this program does not
	// know. Such a rule is foreign, whatever its protocol.
	Opaque bool
}

// Ours reports whether the rule carries our protocol number and nothing that
// we could not have written.
func (r Rule) Ours() bool { return r.Protocol == Protocol && !r.Opaque }

// ForeignTable returns the table that a rule of others looks up, where its routes matter:
// what `local` holds leads nowhere.
func (r *Rule) ForeignTable() (table uint32, is bool) {
	is = !r.Ours() && r.Action == Lookup && r.Table != TableLocal && r.Table != 0
	return r.Table, is
}

// The rules of the five roles: a mark's two guards and its look-up, and the two of
// an address's pair. What may have to stand in front of them wanter.localRule makes.

func suppressRule(f fwmark.Family, priority uint32, m fwmark.Mark, group uint32) Rule {
	return Rule{Family: f, Priority: priority, Mark: m, Action: Lookup, Table: TableMain,
		Suppresses: true, SuppressesGroup: true, SuppressGroup: group, Protocol: Protocol}
}

func lookupRule(f fwmark.Family, priority uint32, m fwmark.Mark, table uint32) Rule {
	return Rule{Family: f, Priority: priority, Mark: m, Action: Lookup, Table: table, Protocol: Protocol}
}

func unreachableRule(f fwmark.Family, priority uint32, m fwmark.Mark) Rule {
	return Rule{Family: f, Priority: priority, Mark: m, Action: Unreachable, Protocol: Protocol}
}

func pairRules(priority uint32, addr netip.Addr, group uint32) [2]Rule {
	suppress := suppressRule(fwmark.FamilyOf(addr), priority, fwmark.Mark{}, group)
	suppress.From = netip.PrefixFrom(addr, addr.BitLen())
	return [2]Rule{
		suppress,
		{Family: suppress.Family, Priority: priority + 1, From: suppress.From, Action: Lookup, Table: TableOf(addr), Protocol: Protocol},
	}
}

// marked reports whether the rule selects by a mark and nothing else, as the
// rules of a block do.
func (r *Rule) marked() bool {
	return r.Mark.Mask != 0 && !r.From.IsValid() && r.plain()
}

// sourced reports whether the rule selects one source address and nothing
// else, as the rules of a pair do.
func (r *Rule) sourced() bool {
	return r.Mark.Mask == 0 && r.From.IsValid() && r.From.IsSingleIP() && r.plain()
}

func (r *Rule) plain() bool {
	return !r.To.IsValid() && r.Iif == "" && r.Oif == "" && !r.Invert && !r.Opaque
}

// selectsAll reports whether a rule has no selector but `not fwmark`, as those of
// full tunnels.
func (r *Rule) selectsAll() bool {
	return !r.From.IsValid() && !r.To.IsValid() && r.Iif == "" && r.Oif == "" && !r.Opaque && (r.Mark.Mask == 0 || r.Invert)
}

func (r *Rule) isSuppress() bool { return r.Action == Lookup && r.Table == TableMain && r.Suppresses }
func (r *Rule) isLookup() bool {
	return r.Action == Lookup && !r.suppressesAny() && r.Table != TableLocal
}
func (r *Rule) isLocal() bool {
	return r.Action == Lookup && !r.suppressesAny() && r.Table == TableLocal
}
func (r *Rule) isUnreachable() bool { return r.Action == Unreachable && !r.suppressesAny() }

func (r *Rule) suppressesAny() bool { return r.Suppresses || r.SuppressesGroup }
