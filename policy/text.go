package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// String returns the rule's one text form, "rule 4 32754 fwmark 0x2005
// unreachable", as in steps, messages and tests. Protocols are not part of it.
func (r Rule) String() string {
	words := []string{"rule", r.Family.String(), strconv.FormatUint(uint64(r.Priority), 10)}
	add := func(w ...string) { words = append(words, w...) }
	if r.Invert {
		add("not")
	}
	if r.From.IsValid() {
		add("from", prefixText(r.From))
	}
	if r.To.IsValid() {
		add("to", prefixText(r.To))
	}
	if r.Mark.Mask != 0 {
		add("fwmark", r.Mark.String())
	}
	if r.Iif != "" {
		add("iif", r.Iif)
	}
	if r.Oif != "" {
		add("oif", r.Oif)
	}
	if r.Opaque {
		add("(and more)")
	}
	switch r.Action {
	case Lookup:
		add("lookup", tableText(r.Table))
	case Goto:
		add("goto", strconv.FormatUint(uint64(r.Table), 10))
	default:
		add(r.Action.String())
	}
	if r.Suppresses {
		add("suppress_prefixlength", strconv.FormatUint(uint64(r.Suppress), 10))
	}
	return strings.Join(words, " ")
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
func (r Route) String() string {
	words := []string{"route", r.Family.String(), tableText(r.Table)}
	add := func(w ...string) { words = append(words, w...) }
	if r.Type != Unicast {
		add(fmt.Sprintf("type-%d", uint8(r.Type)))
	}
	if r.isDefault() {
		add("default")
	} else {
		add(prefixText(r.Dst))
	}
	if r.Gateway.IsValid() {
		add("via", r.Gateway.String())
	}
	if r.Device != "" {
		add("dev", r.Device)
	}
	if r.Src.IsValid() {
		add("src", r.Src.String())
	}
	if r.Metric != metric(r.Family) {
		add("metric", strconv.FormatUint(uint64(r.Metric), 10))
	}
	if r.OnLink {
		add("onlink")
	}
	return strings.Join(words, " ")
}

func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func tableText(t uint32) string {
	switch t {
	case TableMain:
		return "main"
	case TableLocal:
		return "local"
	case TableDefault:
		return "default"
	}
	return strconv.FormatUint(uint64(t), 10)
}
