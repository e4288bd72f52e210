package watch

import (
	"testing"

	"wg-multihome/cmd/internal/events"
	"wg-multihome/policy"
)

func TestByAndParty(t *testing.T) {
	deleted := events.Cause{Kind: events.Rule, Gone: true, Protocol: policy.Protocol, Text: guard[2:], Port: 1 << 21, Process: "netd"}
	others := deleted
	others.Text = "rule 4 32753 fwmark 0x2005 lookup 7"
	all := []events.Cause{deleted, others, others, others}
	for _, c := range []struct {
		name   string
		causes []events.Cause
		step   string
		by     string
		party  string
	}{
		{"a rule", []events.Cause{deleted}, guard, "deleted", "netd (process 2097152)"},
		{"all of them", all, guard, "flushed", "netd (process 2097152)"},
		{"one that is gone", []events.Cause{{Kind: events.Rule, Gone: true, Text: guard[2:], Port: 9}}, guard, "deleted", "process 9, which is gone"},
		{"a link", []events.Cause{{Kind: events.Link}}, "+ route 4 7 default dev up2", "link", "another program"},
		{"an address", []events.Cause{{Kind: events.Address}}, "+ route 4 7 default dev up2", "address", "another program"},
		{"our table", []events.Cause{{Kind: events.Table, Gone: true}}, "+ nft chain lock (3 rules)", "deleted", "another program"},
		{"a cgroup", []events.Cause{{Kind: events.Cgroup}}, "+ socket-mark a.service 0x2005", "cgroup", "another program"},
		{"a daemon's route", []events.Cause{{Kind: events.Route, Protocol: 16, Text: "route 4 of table 254"}}, guard, "dhcp", "whoever changes route 4 of table 254 (protocol 16, dhcp)"},
		{"a mark", nil, "= wg wg0 fwmark 0x2005", "wireguard", "another program"},
		{"nothing", nil, guard, "unknown", "another program"},
	} {
		h := events.Heard{Causes: c.causes}
		if by, party := By(h, c.step), Party(h, c.step); by != c.by || party != c.party {
			t.Errorf("%s: %q, %q", c.name, by, party)
		}
	}
	for step, kind := range map[string]string{guard: "rule", "= link up1 group 77": "link", "= sysctl x 1": "sysctl", "+ nft set x": "nft", "": "other", "? x": "other"} {
		if got := Kind(step); got != kind {
			t.Errorf("%q is %q", step, got)
		}
	}
}
