package e2e

import (
	"fmt"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// TestDelegatedPrefix is a host whose second uplink has no global IPv6 address, as
// PPPoE often has none. The ISP's prefix stands on a LAN's bridge, and main's
// preferred default leads to the other ISP, which drops what has that source.
func TestDelegatedPrefix(t *testing.T) {
	const lan = "2001:db8:5:1::1"
	l := newLab(t)
	l.Static()
	linkLocal := func(n *lab.Namespace, device string) string {
		words := strings.Fields(n.Run("ip", "-o", "-6", "addr", "show", "scope", "link", "dev", device))
		return strings.TrimSuffix(words[3], "/64")
	}
	l.ISP2.Script(fmt.Sprintf(`ip -6 route add 2001:db8:5::/56 via %s dev home
nft insert rule inet isp forward iifname home ip6 saddr 2001:db8:5::/56 accept`, linkLocal(l.Namespace, "up2")))
	l.Far.Run("ip", "-6", "route", "add", "2001:db8:5::/56", "via", "fd00:2::1", "src", lab.Far6)
	l.Script(fmt.Sprintf(`ip -6 addr del 2001:db8:2::10/64 dev up2
ip -6 route replace default via %s dev up2 metric 2
ip link add lan0 type bridge; ip link set lan0 up
ip -6 addr add %s/64 dev lan0 nodad`, linkLocal(l.ISP2, "home"), lan))

	l.Interfaces("iface up2 inet6 auto\n\tmultihomed-fwmark 0x2005\n\tmultihomed-source 2001:db8:5::/56\n")
	l.MustMH("sync")
	noDrift(t, l)
	l.WantSeen(lab.Far6, lan, 0, lan)
	l.WantSeen(lab.Far6, "", mark, lan)
	l.WantSeen(lab.Far6, "", 0, one6)
	wantPart(t, "the LAN", l.Run("ip", "-6", "route", "get", "2001:db8:5:1::77", "from", lan), "dev lan0")

	// A typo takes nothing away, and the bridge becomes no uplink.
	toml := l.TOML("[uplink.up1]\nsource = ['2001:db8:5::/56']\n")
	wantCode(t, l.MH("sync", "--config", toml), 2)
	l.WantSeen(lab.Far6, lan, 0, lan)
	l.WantSeen(lab.Far6, "", mark, lan)

	l.MustMH("sync")
	l.Script("ip link set up2 down")
	l.MustMH("sync")
	l.WantRefused(lab.Far6, "", mark)
	noDrift(t, l)
	noSpoof(t, l)
}

// TestAliasGateway has a second network of another router on one interface, by an
// alias's stanza: what is sent from its address goes to that router.
func TestAliasGateway(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(`iface up2 inet static
	address 198.51.100.10/24
	gateway 198.51.100.1
	multihomed-fwmark 0x2005
iface up2:1 inet static
	address 203.0.113.130/25
	gateway 203.0.113.129
`)
	l.Script("ip addr add 203.0.113.130/25 dev up2 label up2:1")
	l.MustMH("sync")
	noDrift(t, l)
	wantPart(t, "the alias's table", l.Table("3405803906"), "default via 203.0.113.129 dev up2")
	wantPart(t, "the other one's", l.Table("3325256714"), "default via 198.51.100.1 dev up2")
	l.WantSeen(lab.Far4, "", mark, two4)
	noSpoof(t, l)
}
