package e2e

import (
	"fmt"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// strictHost has what breaks answers that come back by another way than the
// kernel's own: a strict rp_filter, and a firewall that lets in only what
// answers. Clients see their answers in any case, by a packet socket, so the
// firewall counts.
const strictHost = `
for d in all up1 up2; do sysctl -qw net.ipv4.conf.$d.rp_filter=1; done
nft -f - <<X
table inet firewall {
	counter answers {}
	counter lost {}
	chain input {
		type filter hook input priority 0; policy drop
		udp sport 67 udp dport 68 ct state established,related counter name answers accept
		udp sport 67 udp dport 68 counter name lost drop
		ct state established,related accept
		iif lo accept
		meta l4proto icmpv6 accept
	}
}
X
`

// countRenewals has a router count unicast requests of clients by BOOTP's
// ciaddr: those of its own network, whose source is that address, and all
// others.
const countRenewals = `nft -f - <<X
table inet renewals {
	counter right {}
	counter wrong {}
	chain in {
		type filter hook prerouting priority -300
		iifname home udp sport 68 udp dport 67 @th,160,32 %[1]s ip saddr %[2]s counter name right return
		iifname home udp sport 68 udp dport 67 @th,160,32 != 0 counter name wrong
	}
}
X
`

// dhcpServers are where the leases come from: from servers on the link, from
// one of each ISP's, elsewhere in its network, and from one for both.
var dhcpServers = map[string]func(l *lab.Lab){
	"on the link": func(l *lab.Lab) {
		l.Serve(l.ISP1, "192.0.2.20", "192.0.2.20")
		l.Serve(l.ISP2, "198.51.100.20", "198.51.100.20")
	},
	"one of each ISP": func(l *lab.Lab) {
		l.Relay(l.ISP1, "192.0.2.1", l.ServeBehind(l.ISP1, 1, range1))
		l.Relay(l.ISP2, "198.51.100.1", l.ServeBehind(l.ISP2, 2, range2))
	},
	"one far server": func(l *lab.Lab) {
		server := l.ServeBehind(l.Far, 3, range1, range2)
		for number, isp := range []*lab.Namespace{l.ISP1, l.ISP2} {
			isp.Script(fmt.Sprintf("ip route add 10.9.3.0/24 via 10.%d.0.2", number+1))
		}
		l.Relay(l.ISP1, "192.0.2.1", server)
		l.Relay(l.ISP2, "198.51.100.1", server)
	},
}

// dnsmasq's ranges of one address each.
const (
	range1 = "192.0.2.20,192.0.2.20,255.255.255.0,2m"
	range2 = "198.51.100.20,198.51.100.20,255.255.255.0,2m"
)

// TestRenewalsLeaveByTheirUplink has real clients on both uplinks renew their
// leases. Main's default leads to the first one.
func TestRenewalsLeaveByTheirUplink(t *testing.T) {
	for _, c := range []struct {
		server, config string
		blind          bool // the chain is taken away after each run
	}{
		{"on the link", "", false},
		{"one of each ISP", pinned, false},
		{"one of each ISP", pinned, true},
		{"one far server", "", false},
		{"one far server", pinned, false},
		{"one far server", "", true},
	} {
		t.Run(fmt.Sprintf("%s marks %t blind %t", c.server, c.config != "", c.blind), func(t *testing.T) {
			l := newLab(t)
			l.Interfaces(c.config)
			l.Hook()
			if c.blind {
				l.Write("/etc/dhcp/dhclient-exit-hooks.d/zzy-blind", "nft flush chain inet wg_multihome renewals || :\n", 0o644)
			}
			l.Write("/etc/dhcp/dhclient-exit-hooks.d/zzz-reason", "echo $reason $interface >>/run/reasons\n", 0o644)
			l.Script(strictHost)
			dhcpServers[c.server](l)
			l.ISP1.Script(fmt.Sprintf(countRenewals, "0xc0000214", "192.0.2.20"))
			l.ISP2.Script(fmt.Sprintf(countRenewals, "0xc6336414", "198.51.100.20"))
			l.RenewAfter(2)
			l.Dhclient("up1")
			l.Dhclient("up2")
			wantEqual(t, "main's default", strings.TrimSpace(l.Run("ip", "route", "show", "default")), "default via 192.0.2.1 dev up1")
			count := func(n *lab.Namespace, table, counter string) int {
				t.Helper()
				return number(t, packets, n.Run("nft", "list", "counter", "inet", table, counter))
			}
			if c.blind {
				lab.Until(t, "a renewal leaves by the wrong uplink", func() bool { return count(l.ISP1, "renewals", "wrong") > 0 })
				return
			}
			answers, lost := count(l.Namespace, "firewall", "answers"), count(l.Namespace, "firewall", "lost")
			renewed := func(uplink string) bool { return strings.Count(l.Read("/run/reasons"), "RENEW "+uplink+"\n") >= 3 }
			lab.Until(t, "both leases are renewed three times", func() bool { return renewed("up1") && renewed("up2") })
			for _, isp := range []*lab.Namespace{l.ISP1, l.ISP2} {
				if right, wrong := count(isp, "renewals", "right"), count(isp, "renewals", "wrong"); right < 3 || wrong != 0 {
					t.Errorf("%d renewals of its own came to a router, and %d of others", right, wrong)
				}
			}
			if a, n := count(l.Namespace, "firewall", "answers")-answers, count(l.Namespace, "firewall", "lost")-lost; a < 5 || n != 0 {
				t.Errorf("the firewall let in %d answers, and dropped %d", a, n)
			}
			noDrift(t, l)
			noSpoof(t, l)
		})
	}
}
