package e2e

import (
	"strings"
	"testing"
)

// ownGateways gives both uplinks the gateways that Static has in main.
const ownGateways = `iface up1 inet manual
	multihomed-gateway 192.0.2.1 2001:db8:1::1
iface up2 inet manual
	multihomed-gateway 198.51.100.1 2001:db8:2::1
	multihomed-fwmark 0x2005
`

// TestStatusAsksTheKernel puts what others can put in the way of pinned packets:
// status names it, with what the kernel does instead, and sync says that it cannot
// mend it. Without it both are silent.
func TestStatusAsksTheKernel(t *testing.T) {
	for name, c := range map[string]struct {
		add, remove string
		astray      []string // parts of lines
	}{
		"a prohibit in front": {
			add: "ip rule add pref 100 prohibit", remove: "ip rule del pref 100",
			astray: []string{
				"mark 0x2005 to 9.9.9.9 is refused (permission denied), wanted: by up2; `rule 4 100 prohibit` decides",
				"mark 0x2005 to 198.51.100.1 is refused (permission denied), wanted: by up2",
				"source 192.0.2.10 to 9.9.9.9 is refused", "source 192.0.2.10 to 192.0.2.1 is refused",
				"source 198.51.100.10 to 9.9.9.9 is refused", "source 198.51.100.10 to 198.51.100.1 is refused",
			},
		},
		"an unreachable default in main": {
			add:    "ip route del default metric 1; ip route del default metric 2; ip route add unreachable default metric 9",
			remove: "ip route del unreachable default metric 9",
			astray: []string{"mark 0x2005 to 9.9.9.9 is refused (no route to host), wanted: by up2; `rule 4 32752 fwmark 0x2005 lookup main suppress_prefixlength 0 suppress_ifgroup 77` finds a route that refuses it"},
		},
		"a blackhole for the uplink's network": {
			add: "ip rule add pref 7 to 198.51.100.0/24 blackhole", remove: "ip rule del pref 7",
			astray: []string{"mark 0x2005 to 198.51.100.1 is refused (invalid argument), wanted: by up2; `rule 4 7 to 198.51.100.0/24 blackhole` decides"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Interfaces(ownGateways)
			l.MustMH("sync")
			noDrift(t, l)
			l.Script(c.add)
			r := l.MH("status", "--exit-code")
			wantCode(t, r, 3)
			for _, part := range c.astray {
				wantPart(t, "status", r.Stdout, "\n  "+part)
			}
			r = l.MH("sync")
			wantCode(t, r, 1)
			wantPart(t, "sync", r.Stderr, "cannot be mended: "+c.astray[0])
			wantCode(t, l.MH("sync", "--hook"), 0)
			l.Script(c.remove)
			l.MustMH("sync")
			noDrift(t, l)
			if s := l.MustMH("status").Stdout; strings.Contains(s, "BELONGS") {
				t.Errorf("status:\n%s", s)
			}
		})
	}
}

// TestMarkOfOthersInFront: another's rule for the same mark stands in front until
// sync moves ours there.
func TestMarkOfOthersInFront(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.MustMH("sync")
	l.Script("ip route add default via 192.0.2.1 dev up1 table 100; ip rule add pref 50 fwmark 0x2005 lookup 100")
	r := l.MH("status", "--exit-code")
	wantCode(t, r, 3)
	wantPart(t, "status", r.Stdout, "mark 0x2005 to 9.9.9.9 leaves by up1, wanted: by up2; `rule 4 50 fwmark 0x2005 lookup 100` finds `route 4 100 default via 192.0.2.1 dev up1`")
	l.MustMH("sync")
	noDrift(t, l)
}
