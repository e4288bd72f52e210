package policy

import (
	"fmt"
	"net/netip"
	"strconv"
)

// String returns the rule's one text form, "rule 4 32754 fwmark 0x2005
// unreachable", as in steps, messages and tests. Protocols are not part of it.
func (r Rule) String() string { return string(r.appendText(make([]byte, 0, textSize))) }

// textSize is more than the text of a step mostly takes.
const textSize = 128

func (r *Rule) appendText(b []byte) []byte {
	b = append(append(b, "rule "...), r.Family.String()...)
	b = appendNumber(b, r.Priority)
	if r.Invert {
		b = appendWord(b, "not")
	}
	if r.From.IsValid() {
		b = appendPrefix(appendWord(b, "from"), r.From)
	}
	if r.To.IsValid() {
		b = appendPrefix(appendWord(b, "to"), r.To)
	}
	if r.Mark.Mask != 0 {
		b = appendWord(appendWord(b, "fwmark"), r.Mark.String())
	}
	if r.Iif != "" {
		b = appendWord(appendWord(b, "iif"), r.Iif)
	}
	if r.Oif != "" {
		b = appendWord(appendWord(b, "oif"), r.Oif)
	}
	if r.Opaque {
		b = appendWord(b, "(and more)")
	}
	b = appendWord(b, r.Action.String())
	switch r.Action {
	case Lookup:
		b = appendTable(b, r.Table)
	case Goto:
		b = appendNumber(b, r.Table)
	}
	if r.Suppresses {
		b = appendNumber(appendWord(b, "suppress_prefixlength"), r.Suppress)
	}
	if r.SuppressesGroup {
		b = appendNumber(appendWord(b, "suppress_ifgroup"), r.SuppressGroup)
	}
	return b
}

// String returns the action's word in ip-rule(8).
func (a Action) String() string {
	for _, w := range actionWords {
		if w.action == a {
			return w.word
		}
	}
	return fmt.Sprintf("action-%d", uint8(a))
}

var actionWords = [...]struct {
	action Action
	word   string
}{
	{Lookup, "lookup"}, {Goto, "goto"}, {Nop, "nop"},
	{Blackhole, "blackhole"}, {Unreachable, "unreachable"}, {Prohibit, "prohibit"},
}

// String returns the route's one text form, "route 4 16909060 default via
// 1.2.3.1 dev enp2s0.5 src 1.2.3.4".
func (r Route) String() string { return string(r.appendText(make([]byte, 0, textSize))) }

func (r *Route) appendText(b []byte) []byte {
	b = append(append(b, "route "...), r.Family.String()...)
	b = appendTable(b, r.Table)
	if r.Type != Unicast {
		b = appendWord(b, fmt.Sprintf("type-%d", uint8(r.Type)))
	}
	if r.isDefault() {
		b = appendWord(b, "default")
	} else {
		b = appendPrefix(b, r.Dst)
	}
	if r.Gateway.IsValid() {
		b = appendAddr(appendWord(b, "via"), r.Gateway)
	}
	if r.Device != "" {
		b = appendWord(appendWord(b, "dev"), r.Device)
	}
	if r.Src.IsValid() {
		b = appendAddr(appendWord(b, "src"), r.Src)
	}
	if r.Metric != metric(r.Family) {
		b = appendNumber(appendWord(b, "metric"), r.Metric)
	}
	if r.OnLink {
		b = appendWord(b, "onlink")
	}
	if r.MTU != 0 {
		b = appendNumber(appendWord(b, "mtu"), r.MTU)
	}
	if r.AdvMSS != 0 {
		b = appendNumber(appendWord(b, "advmss"), r.AdvMSS)
	}
	if r.Preference != MediumPreference {
		b = appendWord(appendWord(b, "pref"), r.Preference.String())
	}
	return b
}

// String returns the preference's word in ip-route(8).
func (p Preference) String() string {
	switch p {
	case LowPreference:
		return "low"
	case HighPreference:
		return "high"
	}
	return "medium"
}

// Each of these appends a blank, and then its word.

func appendWord(b []byte, word string) []byte { return append(append(b, ' '), word...) }

func appendNumber(b []byte, n uint32) []byte {
	return strconv.AppendUint(append(b, ' '), uint64(n), 10)
}

func appendAddr(b []byte, a netip.Addr) []byte { return a.AppendTo(append(b, ' ')) }

func appendPrefix(b []byte, p netip.Prefix) []byte {
	if p.IsSingleIP() {
		return appendAddr(b, p.Addr())
	}
	return p.AppendTo(append(b, ' '))
}

func appendTable(b []byte, t uint32) []byte {
	switch t {
	case TableMain:
		return appendWord(b, "main")
	case TableLocal:
		return appendWord(b, "local")
	case TableDefault:
		return appendWord(b, "default")
	}
	return appendNumber(b, t)
}
