package watch

import (
	"fmt"
	"strings"

	"wg-multihome/cmd/internal/events"
	"wg-multihome/policy"
)

// By says by what something of ours was taken. It is one of a closed set, for
// metrics: deleted, flushed, link, address, nft, cgroup, wireguard, unknown, or the
// name of a routing protocol.
func By(h events.Heard, step string) string {
	deleted, rules := 0, 0
	for _, c := range h.Causes {
		if c.Kind == events.Rule && c.Gone && c.Protocol == policy.Protocol {
			rules++
		}
		if c.Gone && concerns(c, step) {
			deleted++
		}
	}
	switch {
	case deleted > 0 && rules >= flushes && isRule(step):
		return "flushed"
	case deleted > 0:
		return "deleted"
	}
	for _, by := range []struct {
		kind events.Kind
		name string
	}{{events.Link, "link"}, {events.Address, "address"}, {events.Table, "nft"}, {events.Cgroup, "cgroup"}} {
		if h.Has(by.kind) {
			return by.name
		}
	}
	for _, c := range h.Causes {
		if name := policy.ProtocolName(c.Protocol); name != "" && c.Protocol != policy.ProtocolUnspec && (c.Kind == events.Rule || c.Kind == events.Route) {
			return name
		}
	}
	if Kind(step) == "device" {
		return "wireguard"
	}
	return "unknown"
}

// flushes is from how many of our rules on a deletion is one of all of them.
const flushes = 4

func isRule(step string) bool { return Kind(step) == "rule" }

// concerns reports whether a cause is about what a step puts.
func concerns(c events.Cause, step string) bool {
	switch c.Kind {
	case events.Rule:
		return len(step) > 2 && step[2:] == c.Text
	case events.Route:
		return c.Protocol == policy.Protocol && Kind(step) == "route"
	case events.Table:
		return Kind(step) == "nft"
	}
	return false
}

// Kind is what a step puts, by its text: one of a closed set.
func Kind(step string) string {
	words := strings.Fields(step)
	if len(words) < 2 {
		return "other"
	}
	switch words[1] {
	case "rule", "route", "nft", "link", "sysctl", "conntrack":
		return words[1]
	case "wg":
		return "device"
	case "socket-mark":
		return "socket"
	}
	return "other"
}

// Party names who takes what a step puts, as far as what was heard tells.
func Party(h events.Heard, step string) string {
	for _, c := range h.Causes {
		if c.Gone && concerns(c, step) {
			if who := c.Who(); who != "" {
				return who
			}
		}
	}
	for _, c := range h.Causes {
		if c.Kind == events.Rule && c.Protocol != policy.Protocol && !c.Gone {
			return fmt.Sprintf("whoever made %s (protocol %s)", c.Text, protocol(c.Protocol))
		}
		if c.Kind == events.Route && c.Protocol != policy.Protocol {
			return fmt.Sprintf("whoever changes %s (protocol %s)", c.Text, protocol(c.Protocol))
		}
	}
	for _, c := range h.Causes {
		if who := c.Who(); who != "" {
			return who
		}
	}
	return "another program"
}

func protocol(number uint8) string {
	if name := policy.ProtocolName(number); name != "" {
		return fmt.Sprintf("%d, %s", number, name)
	}
	return fmt.Sprint(number)
}
