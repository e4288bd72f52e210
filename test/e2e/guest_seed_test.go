//go:build guest

package e2e

import (
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// seedInterfaces and seedRules are the example of the shell script's text.
const (
	seedInterfaces = `auto enp1s0
iface enp1s0 inet dhcp
	metric 1024

auto  enp2s0.5
iface enp2s0.5 inet dhcp
	metric 2048
	multihomed-fwmark 0x2005
`
	seedRules = `
32752:	from all fwmark 0x2005 lookup main suppress_prefixlength 0
32753:	from all fwmark 0x2005 lookup 16909060
32754:	from all fwmark 0x2005 unreachable
32755:	from 1.2.3.4 lookup main suppress_prefixlength 0
32756:	from 1.2.3.4 lookup 16909060
32757:	from 192.168.42.222 lookup main suppress_prefixlength 0
32758:	from 192.168.42.222 lookup 3232246494
32766:	from all lookup main
32767:	from all lookup default
`
)

// seedRouter gives a router of the lab another network, on a device that has the name
// home by then; far knows the way back.
func seedRouter(l *lab.Lab, isp *lab.Namespace, net, transit string) {
	isp.Script(`ip link set home up; ip addr flush dev home; ip addr add ` + net + `.1/24 dev home
nft flush chain inet isp forward
nft add rule inet isp forward iifname home ip saddr != ` + net + `.0/24 counter name spoofed drop`)
	l.Far.Run("ip", "route", "add", net+".0/24", "via", transit, "src", lab.Far4)
}

// bySelector returns the lines that begin with a selector, in their order,
// without preference and protocol.
func bySelector(rules, selector string) string {
	var b strings.Builder
	for _, line := range strings.Split(rules, "\n") {
		_, rule, _ := strings.Cut(line, ":")
		rule = strings.TrimSuffix(strings.Join(strings.Fields(rule), " "), " proto 77")
		if strings.HasPrefix(rule, selector+" ") {
			b.WriteString(rule + "\n")
		}
	}
	return b.String()
}

// TestGuestSeedExample is the seed's own example: a VLAN, metrics, and a real
// lease on both uplinks, brought up by ifup.
func TestGuestSeedExample(t *testing.T) {
	l := newLab(t)
	l.Script(`ip link set up1 down; ip link set up1 name enp1s0; ip link set up2 down; ip link set up2 name enp2s0
ip link set enp1s0 up; ip link set enp2s0 up; ip link add link enp2s0 name enp2s0.5 type vlan id 5`)
	l.ISP2.Script("ip link set home down; ip link set home name trunk; ip link set trunk up; ip link add link trunk name home type vlan id 5")
	seedRouter(l, l.ISP1, "192.168.42", "10.1.0.1")
	seedRouter(l, l.ISP2, "1.2.3", "10.2.0.1")
	l.Interfaces(seedInterfaces)
	l.Hook()
	l.Serve(l.ISP1, "192.168.42.222", "192.168.42.222")
	l.Serve(l.ISP2, "1.2.3.4", "1.2.3.4")
	for _, uplink := range []string{"enp1s0", "enp2s0.5"} {
		t.Cleanup(func() { l.Try(nil, "ifdown", uplink) })
		l.Run("ifup", uplink)
	}
	// As in the seed, but that look-ups of main pass over the routes of uplinks, too.
	rules := strings.ReplaceAll(l.Run("ip", "rule"), " suppress_ifgroup 77", "")
	for _, selector := range []string{"from all fwmark 0x2005", "from 1.2.3.4", "from 192.168.42.222"} {
		wantEqual(t, "rules "+selector, bySelector(rules, selector), bySelector(seedRules, selector))
	}
	if n := strings.Count(rules, ":") - 1; n != strings.Count(seedRules, ":") { // but for local
		t.Errorf("%d rules:\n%s", n, rules)
	}
	wantPart(t, "table", l.Table("3232246494"), "default via 192.168.42.1 dev enp1s0")
	wantPart(t, "table", l.Table("16909060"), "default via 1.2.3.1 dev enp2s0.5")
	wantEqual(t, "main's defaults", l.Run("ip", "route", "show", "default"), "default via 192.168.42.1 dev enp1s0 metric 1024 \ndefault via 1.2.3.1 dev enp2s0.5 metric 2048 \n")
	l.WantSeen(lab.Far4, "", 0, "192.168.42.222")
	l.WantSeen(lab.Far4, "", mark, "1.2.3.4")
	l.WantSeen(lab.Far4, "1.2.3.4", 0, "1.2.3.4")
	noDrift(t, l)
	l.Run("ifdown", "enp2s0.5")
	l.WantRefused(lab.Far4, "", mark)
	noSpoof(t, l)
}
