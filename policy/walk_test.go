package policy_test

import (
	"net/netip"
	"syscall"
	"testing"

	"wg-multihome/policy"
)

// TestWalkNamesTheRule checks which rule decides. Where packets leave is what
// the simulated kernel's scenarios are about.
func TestWalkNamesTheRule(t *testing.T) {
	s := stateOf(t, `
		rule 6 1 unreachable
		rule 4 100 fwmark 0x2005 lookup main suppress_prefixlength 0
		rule 4 101 fwmark 0x2005 lookup 16909060
		rule 4 102 fwmark 0x2005 unreachable
		rule 4 103 to 198.51.100.0/24 goto 105
		rule 4 104 to 198.51.100.0/24 unreachable
		rule 4 105 to 198.51.100.7 prohibit
		rule 4 106 to 198.51.100.8 blackhole
		rule 4 200 lookup main
		route 4 main 192.0.2.0/24 dev lan0
		route 4 main type-7 198.51.100.0/24
		route 4 16909060 128.0.0.0/1 dev up0`)
	for dst, c := range map[string]struct {
		mark   uint32
		rule   string
		device string
		errno  syscall.Errno
	}{
		"192.0.2.1":    {mark: 0x2005, rule: "rule 4 100 fwmark 0x2005 lookup main suppress_prefixlength 0", device: "lan0"},
		"203.0.113.1":  {mark: 0x2005, rule: "rule 4 101 fwmark 0x2005 lookup 16909060", device: "up0"},
		"9.9.9.9":      {mark: 0x2005, rule: "rule 4 102 fwmark 0x2005 unreachable", errno: syscall.ENETUNREACH},
		"198.51.100.7": {rule: "rule 4 105 to 198.51.100.7 prohibit", errno: syscall.EACCES},
		"198.51.100.8": {rule: "rule 4 106 to 198.51.100.8 blackhole", errno: syscall.EINVAL},
		"198.51.100.9": {rule: "rule 4 200 lookup main", errno: syscall.EHOSTUNREACH},
		"192.0.2.2":    {rule: "rule 4 200 lookup main", device: "lan0"},
		"9.9.9.8":      {errno: syscall.ENETUNREACH}, // no rule decides
	} {
		v := policy.Routing{Rules: s.Rules, Routes: s.Routes}.Walk(policy.Packet{Mark: c.mark, Dst: netip.MustParseAddr(dst)})
		rule := ""
		if v.Rule != (policy.Rule{}) {
			rule = v.Rule.String()
		}
		if rule != c.rule || v.Route.Device != c.device || v.Errno != c.errno {
			t.Errorf("%s with mark %#x: %q decides, by %q (%v); want %q, by %q (%v)", dst, c.mark, rule, v.Route.Device, v.Errno, c.rule, c.device, c.errno)
		}
	}
}
