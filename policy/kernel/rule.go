package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
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

// fra_pad, which linux/fib_rules.h has and nl has not.
const fraPad = 18

var errShort = errors.New("message of the kernel is too short")

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

// encodeRule returns the header and attributes of a rule, each field given: in
// RTM_DELRULE the kernel takes what is missing for a wildcard.
func encodeRule(r policy.Rule) (*nl.RtMsg, []*nl.RtAttr) {
	h := &nl.RtMsg{RtMsg: unix.RtMsg{Family: familyNumber(r.Family), Type: uint8(r.Action)}}
	if r.Invert {
		h.Flags = ruleInvert
	}
	attrs := []*nl.RtAttr{nl.NewRtAttr(nl.FRA_PRIORITY, nl.Uint32Attr(r.Priority))}
	add := func(kind int, data []byte) { attrs = append(attrs, nl.NewRtAttr(kind, data)) }
	if r.From.IsValid() {
		h.Src_len = uint8(r.From.Bits())
		add(nl.FRA_SRC, r.From.Addr().AsSlice())
	}
	if r.To.IsValid() {
		h.Dst_len = uint8(r.To.Bits())
		add(nl.FRA_DST, r.To.Addr().AsSlice())
	}
	if r.Mark.Mask != 0 {
		add(nl.FRA_FWMARK, nl.Uint32Attr(r.Mark.Value))
		add(nl.FRA_FWMASK, nl.Uint32Attr(r.Mark.Mask))
	}
	if r.Iif != "" {
		add(nl.FRA_IIFNAME, nl.ZeroTerminated(r.Iif))
	}
	if r.Oif != "" {
		add(nl.FRA_OIFNAME, nl.ZeroTerminated(r.Oif))
	}
	switch {
	case r.Action == policy.Goto:
		add(nl.FRA_GOTO, nl.Uint32Attr(r.Table))
	case r.Table != 0:
		add(nl.FRA_TABLE, nl.Uint32Attr(r.Table))
	}
	if r.Suppresses {
		add(nl.FRA_SUPPRESS_PREFIXLEN, nl.Uint32Attr(r.Suppress))
	}
	add(nl.FRA_PROTOCOL, []byte{r.Protocol})
	return h, attrs
}

// decodeRule reads a message of RTM_NEWRULE, from its header on. What it does
// not know makes the rule Opaque; an error means that it is no rule at all.
func decodeRule(m []byte) (policy.Rule, error) {
	if len(m) < headerSize {
		return policy.Rule{}, errShort
	}
	family, err := familyOfNumber(m[0])
	if err != nil {
		return policy.Rule{}, err
	}
	attrs, err := attributes(m[headerSize:])
	if err != nil {
		return policy.Rule{}, fmt.Errorf("attributes of a rule: %w", err)
	}
	flags := binary.NativeEndian.Uint32(m[8:])
	r := policy.Rule{
		Family: family, Action: policy.Action(m[7]), Table: uint32(m[4]),
		Invert: flags&ruleInvert != 0, Opaque: m[3] != 0 || flags&ruleFindSaddr != 0,
	}
	d := ruleDecoder{rule: r, dstLen: int(m[1]), srcLen: int(m[2])}
	for _, a := range attrs {
		if !d.read(a) {
			d.rule.Opaque = true
		}
	}
	return d.finish(), nil
}

type ruleDecoder struct {
	rule           policy.Rule
	dstLen, srcLen int
	mark, mask     *uint32
	target         uint32
}

// read takes in one attribute, and reports whether it could.
func (d *ruleDecoder) read(a attribute) bool {
	number, isNumber := a.number()
	switch a.kind {
	case nl.FRA_SRC:
		return prefix(&d.rule.From, d.rule.Family, a.value, d.srcLen)
	case nl.FRA_DST:
		return prefix(&d.rule.To, d.rule.Family, a.value, d.dstLen)
	case nl.FRA_IIFNAME:
		d.rule.Iif = unix.ByteSliceToString(a.value)
	case nl.FRA_OIFNAME:
		d.rule.Oif = unix.ByteSliceToString(a.value)
	case nl.FRA_PRIORITY:
		d.rule.Priority = number
		return isNumber
	case nl.FRA_GOTO:
		d.target = number
		return isNumber
	case nl.FRA_FWMARK:
		d.mark = &number
		return isNumber
	case nl.FRA_FWMASK:
		d.mask = &number
		return isNumber
	case nl.FRA_TABLE:
		d.rule.Table = number
		return isNumber
	case nl.FRA_SUPPRESS_PREFIXLEN:
		if number != noSuppress {
			d.rule.Suppresses, d.rule.Suppress = true, number
		}
		return isNumber
	case nl.FRA_PROTOCOL:
		if len(a.value) != 1 {
			return false
		}
		d.rule.Protocol = a.value[0]
	case fraPad:
	default:
		return false
	}
	return true
}

func (d *ruleDecoder) finish() policy.Rule {
	r := &d.rule
	// A mark without a mask is one under the full mask (the kernel says so
	// itself), a mask without a mark selects packets without those bits.
	switch {
	case d.mask != nil:
		r.Mark.Mask = *d.mask
	case d.mark != nil:
		r.Mark.Mask = fwmark.FullMask
	}
	if d.mark != nil {
		r.Mark.Value = *d.mark
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
	return addr, ok && fwmark.FamilyOf(addr) == f
}
