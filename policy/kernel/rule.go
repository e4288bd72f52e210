package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/nlsock"
	"wg-multihome/policy"
)

// headerSize is that of struct fib_rule_hdr and of struct rtmsg, in bytes: the
// same twelve, with a rule's action where a route has its type.
const headerSize = unix.SizeofRtMsg

// Flags of a rule, linux/fib_rules.h. What else there is says how the kernel
// found devices and targets, and selects nothing, but for findSaddr.
const (
	ruleInvert    = 0x2
	ruleFindSaddr = 0x10000
)

// noSuppress is how the kernel writes that a rule suppresses nothing.
const noSuppress = 0xffffffff

func familyNumber(f fwmark.Family) uint8 {
	if f == fwmark.IPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func familyOfNumber(n uint8) (fwmark.Family, error) {
	switch n {
	case unix.AF_INET:
		return fwmark.IPv4, nil
	case unix.AF_INET6:
		return fwmark.IPv6, nil
	}
	return 0, fmt.Errorf("address family %d is neither IPv4 nor IPv6", n)
}

// appendRule appends the header and attributes of a rule, each field given: in
// RTM_DELRULE the kernel takes what is missing for a wildcard. That a rule
// suppresses nothing cannot be given: of two that differ in that alone the first
// one goes (rule_find of net/core/fib_rules.c; -1 is no suppression there).
func appendRule(b []byte, r *policy.Rule) []byte {
	var from, to, flags byte
	if r.From.IsValid() {
		from = byte(r.From.Bits())
	}
	if r.To.IsValid() {
		to = byte(r.To.Bits())
	}
	if r.Invert {
		flags = ruleInvert
	}
	b = append(b, familyNumber(r.Family), to, from, 0, 0, 0, 0, byte(r.Action))
	b = binary.NativeEndian.AppendUint32(b, uint32(flags))
	b = appendNumber(b, unix.FRA_PRIORITY, r.Priority)
	if r.From.IsValid() {
		b = appendAddress(b, unix.FRA_SRC, r.From.Addr())
	}
	if r.To.IsValid() {
		b = appendAddress(b, unix.FRA_DST, r.To.Addr())
	}
	if r.Mark.Mask != 0 {
		b = appendNumber(b, unix.FRA_FWMARK, r.Mark.Value)
		b = appendNumber(b, unix.FRA_FWMASK, r.Mark.Mask)
	}
	if r.Iif != "" {
		b = appendName(b, unix.FRA_IIFNAME, r.Iif)
	}
	if r.Oif != "" {
		b = appendName(b, unix.FRA_OIFNAME, r.Oif)
	}
	switch {
	case r.Action == policy.Goto:
		b = appendNumber(b, unix.FRA_GOTO, r.Table)
	case r.Table != 0:
		b = appendNumber(b, unix.FRA_TABLE, r.Table)
	}
	if r.Suppresses {
		b = appendNumber(b, unix.FRA_SUPPRESS_PREFIXLEN, r.Suppress)
	}
	if r.SuppressesGroup {
		b = appendNumber(b, unix.FRA_SUPPRESS_IFGROUP, r.SuppressGroup)
	}
	return appendAttribute(b, unix.FRA_PROTOCOL, r.Protocol)
}

// decodeRule reads a message of RTM_NEWRULE, from its header on. What it does
// not know makes the rule Opaque; an error means that it is no rule at all.
func decodeRule(m []byte) (policy.Rule, error) { return decodeRuleWith(m, nil) }

// decodeRuleWith hands the attributes that a Rule does not say to others as well.
func decodeRuleWith(m []byte, others func(attribute)) (policy.Rule, error) {
	if len(m) < headerSize {
		return policy.Rule{}, nlsock.ErrShort
	}
	family, err := familyOfNumber(m[0])
	if err != nil {
		return policy.Rule{}, err
	}
	flags := binary.NativeEndian.Uint32(m[8:])
	r := policy.Rule{
		Family: family, Action: policy.Action(m[7]), Table: uint32(m[4]),
		Invert: flags&ruleInvert != 0, Opaque: m[3] != 0 || flags&ruleFindSaddr != 0,
	}
	d := ruleDecoder{rule: r, dstLen: int(m[1]), srcLen: int(m[2]), others: others}
	known, err := eachAttribute(m[headerSize:], d.read)
	if err != nil {
		return policy.Rule{}, fmt.Errorf("attributes of a rule: %w", err)
	}
	d.rule.Opaque = d.rule.Opaque || !known
	return d.finish(), nil
}

type ruleDecoder struct {
	rule           policy.Rule
	dstLen, srcLen int
	marked, masked bool
	target         uint32
	others         func(attribute) // nil, or takes in what a Rule does not say
}

// read takes in one attribute, and reports whether it could.
func (d *ruleDecoder) read(a attribute) bool {
	number, isNumber := a.number()
	switch a.kind {
	case unix.FRA_SRC:
		return prefix(&d.rule.From, d.rule.Family, a.value, d.srcLen)
	case unix.FRA_DST:
		return prefix(&d.rule.To, d.rule.Family, a.value, d.dstLen)
	case unix.FRA_IIFNAME:
		d.rule.Iif = unix.ByteSliceToString(a.value)
	case unix.FRA_OIFNAME:
		d.rule.Oif = unix.ByteSliceToString(a.value)
	case unix.FRA_PRIORITY:
		d.rule.Priority = number
		return isNumber
	case unix.FRA_GOTO:
		d.target = number
		return isNumber
	case unix.FRA_FWMARK:
		d.rule.Mark.Value, d.marked = number, true
		return isNumber
	case unix.FRA_FWMASK:
		d.rule.Mark.Mask, d.masked = number, true
		return isNumber
	case unix.FRA_TABLE:
		d.rule.Table = number
		return isNumber
	case unix.FRA_SUPPRESS_PREFIXLEN:
		if number != noSuppress {
			d.rule.Suppresses, d.rule.Suppress = true, number
		}
		return isNumber
	case unix.FRA_SUPPRESS_IFGROUP:
		if number != noSuppress {
			d.rule.SuppressesGroup, d.rule.SuppressGroup = true, number
		}
		return isNumber
	case unix.FRA_PROTOCOL:
		if len(a.value) != 1 {
			return false
		}
		d.rule.Protocol = a.value[0]
	case unix.FRA_PAD:
	default:
		if d.others != nil {
			d.others(a)
		}
		return false
	}
	return true
}

func (d *ruleDecoder) finish() policy.Rule {
	r := &d.rule
	// A mark without a mask is one under the full mask (the kernel says so
	// itself), a mask without a mark selects packets without those bits.
	if d.marked && !d.masked {
		r.Mark.Mask = fwmark.FullMask
	}
	if r.Mark.Mask == 0 && r.Mark.Value != 0 {
		r.Opaque = true
	}
	if r.Action == policy.Goto {
		r.Table = d.target
	}
	// A prefix length that came without its address.
	if d.srcLen > 0 && !r.From.IsValid() || d.dstLen > 0 && !r.To.IsValid() {
		r.Opaque = true
	}
	return *r
}

// prefix reads an address under a length. One of length 0 is none.
func prefix(p *netip.Prefix, f fwmark.Family, value []byte, bits int) bool {
	addr, ok := address(f, value)
	if !ok || bits > f.Bits() {
		return false
	}
	if bits > 0 {
		*p = netip.PrefixFrom(addr, bits).Masked()
	}
	return true
}

func address(f fwmark.Family, value []byte) (netip.Addr, bool) {
	addr, ok := netip.AddrFromSlice(value)
	if !ok || fwmark.FamilyOf(addr) != f {
		return netip.Addr{}, false
	}
	return addr, true
}
