package lease_test

import (
	"testing"

	"wg-multihome/policy/lease"
)

// goodDhcpcd is what dhcpcd 9.4.1 says of a lease.
var goodDhcpcd = env{
	"reason": "BOUND", "protocol": "dhcp", "if_up": "true", "if_down": "false", "interface": "enp2s0.5", "pid": "71",
	"ifcarrier": "up", "ifmetric": "1002", "new_ip_address": "1.2.3.4", "new_subnet_cidr": "24", "new_subnet_mask": "255.255.255.0",
	"new_routers": "1.2.3.1", "new_dhcp_lease_time": "60",
}

// withDhcpcd returns it with some variables changed.
func withDhcpcd(pairs ...string) env { return changed(goodDhcpcd, pairs) }

const (
	up      = "if_up=true"
	notUp   = "if_up=false"
	down    = "if_down=true"
	textual = "new_classless_static_routes="
)

func TestDhcpcd(t *testing.T) {
	const lease = " enp2s0.5 1.2.3.4/24 via 1.2.3.1"
	wantSaid(t, "dhcpcd", []said{
		{"BOUND", "", withDhcpcd(), "leased BOUND" + lease + " fresh"},
		{"REBOOT", "", withDhcpcd("reason=REBOOT"), "leased REBOOT" + lease + " fresh"},
		{"RENEW", "", withDhcpcd("reason=RENEW"), "leased RENEW" + lease},
		{"REBIND", "", withDhcpcd("reason=REBIND"), "leased REBIND" + lease},
		{"TIMEOUT", "", withDhcpcd("reason=TIMEOUT"), "leased TIMEOUT" + lease},
		{"INFORM", "", withDhcpcd("reason=INFORM"), "leased INFORM" + lease},
		{"STATIC", "", withDhcpcd("reason=STATIC"), "leased STATIC" + lease},
		{"3RDPARTY", "", withDhcpcd("reason=3RDPARTY"), "leased 3RDPARTY" + lease},
		{"RECONFIGURE with a lease", "", withDhcpcd("reason=RECONFIGURE"), "leased RECONFIGURE" + lease},
		{"RECONFIGURE without", "", withDhcpcd("reason=RECONFIGURE", notUp, down, "new_ip_address="), "lost RECONFIGURE enp2s0.5"},
		{"a reason of the future", "", withDhcpcd("reason=FORCERENEW"), "leased FORCERENEW" + lease},

		{"NAK", "", withDhcpcd("reason=NAK", notUp, down), "lost NAK enp2s0.5"},
		{"EXPIRE", "", withDhcpcd("reason=EXPIRE", notUp, down), "lost EXPIRE enp2s0.5"},
		{"FAIL", "", withDhcpcd("reason=FAIL", notUp, down), "lost FAIL enp2s0.5"},
		{"STOP of 9 and 10.1", "", withDhcpcd("reason=STOP", notUp, down), "lost STOP enp2s0.5"},
		{"STOP of 10.3", "", withDhcpcd("reason=STOP", notUp), "look STOP enp2s0.5"},

		{"PREINIT", "", withDhcpcd("reason=PREINIT", "protocol=link", notUp, "interface=a/b"), "nothing PREINIT"},
		{"CARRIER", "", withDhcpcd("reason=CARRIER", "protocol=link", notUp), "nothing CARRIER"},
		{"UNKNOWN", "", withDhcpcd("reason=UNKNOWN", "protocol=link", notUp), "nothing UNKNOWN"},
		{"NOCARRIER", "", withDhcpcd("reason=NOCARRIER", "protocol=link", notUp, down), "lost NOCARRIER enp2s0.5"},
		{"DEPARTED", "", withDhcpcd("reason=DEPARTED", "protocol=link", notUp, down), "lost DEPARTED enp2s0.5"},
		{"NOCARRIER_ROAMING", "", withDhcpcd("reason=NOCARRIER_ROAMING", "protocol=link"), "look NOCARRIER_ROAMING enp2s0.5"},
		{"STOPPED, released", "", withDhcpcd("reason=STOPPED", "protocol=link", notUp, down), "lost STOPPED enp2s0.5"},
		{"STOPPED, persistent", "", withDhcpcd("reason=STOPPED", "protocol=link", notUp), "nothing STOPPED"},

		{"TEST", "", withDhcpcd("reason=TEST"), "nothing TEST"},
		{"DUMP", "", withDhcpcd("reason=DUMP"), "nothing DUMP"},

		{"IPV4LL", "", withDhcpcd("reason=IPV4LL", "protocol=ipv4ll", "new_ip_address=169.254.7.7"), "nothing IPV4LL"},
		{"its end", "", withDhcpcd("reason=IPV4LL", "protocol=ipv4ll", notUp, down), "nothing IPV4LL"},

		{"ROUTERADVERT", "", withDhcpcd("reason=ROUTERADVERT", "protocol=ra"), "look ROUTERADVERT enp2s0.5 of IPv6"},
		{"the last router went", "", withDhcpcd("reason=ROUTERADVERT", "protocol=ra", notUp, down), "look ROUTERADVERT enp2s0.5 of IPv6"},
		{"BOUND6", "", withDhcpcd("reason=BOUND6", "protocol=dhcp6"), "look BOUND6 enp2s0.5 of IPv6"},
		{"EXPIRE6", "", withDhcpcd("reason=EXPIRE6", "protocol=dhcp6", notUp, down), "look EXPIRE6 enp2s0.5 of IPv6"},
		{"STOP6", "", withDhcpcd("reason=STOP6", "protocol=dhcp6", notUp, down), "look STOP6 enp2s0.5 of IPv6"},
		{"STATIC6", "", withDhcpcd("reason=STATIC6", "protocol=static6"), "look STATIC6 enp2s0.5 of IPv6"},
		{"a protocol of the future", "", withDhcpcd("protocol=slip", notUp, down), "nothing BOUND"},

		{"121", "", withDhcpcd(textual + "0.0.0.0/0 1.2.3.7 10.50.0.0/16 1.2.3.1"), "leased BOUND enp2s0.5 1.2.3.4/24 via 1.2.3.7 fresh"},
		{"121 without a default", "", withDhcpcd(textual + "10.50.0.0/16 1.2.3.1"), "leased BOUND enp2s0.5 1.2.3.4/24 no gateway fresh"},
		{"121, on-link default", "", withDhcpcd(textual + "0.0.0.0/0 0.0.0.0"), "leased BOUND enp2s0.5 1.2.3.4/24 no via fresh"},
		{"249", "", withDhcpcd("new_ms_classless_static_routes=0.0.0.0/0 1.2.3.8"), "leased BOUND enp2s0.5 1.2.3.4/24 via 1.2.3.8 fresh"},
		{"121 and 249", "", withDhcpcd("new_ms_classless_static_routes=0.0.0.0/0 1.2.3.8", textual+"0.0.0.0/0 1.2.3.7"), "leased BOUND enp2s0.5 1.2.3.4/24 via 1.2.3.7 fresh"},
		{"121 under dhclient's name", "", withDhcpcd(option121 + "0 1 2 3 9"), "leased BOUND" + lease + " fresh"},
		{"/32", "", withDhcpcd("new_subnet_mask=255.255.255.255", "new_routers=172.31.1.1"), "leased BOUND enp2s0.5 1.2.3.4/32 via 172.31.1.1 fresh"},
	})
}

func TestDhcpcdRefuses(t *testing.T) {
	refused := func(want string, pairs ...string) said { return said{want: want, env: withDhcpcd(pairs...)} }
	wantRefused(t, "dhcpcd", []said{
		refused("protocol is not set, which dhcpcd always says: another client's hook is to name that one by --client", "protocol="),
		refused(`if_up="" is neither true nor false, which dhcpcd always says`, "if_up="),
		refused(`if_down="1" is neither true nor false, which dhcpcd always says`, "if_down=1"),
		refused("if_up and if_down are both true", down),
		refused(`interface="a/b" is no interface name: it holds '/'`, "interface=a/b"),
		refused(`interface="" is empty, and no interface name`, "interface=", "protocol=ra"),
		refused(`new_ip_address="" is not set, in a lease`, "new_ip_address="),
		refused(`new_ip_address="169.254.7.7" is a link-local address`, "new_ip_address=169.254.7.7"),
		refused(`new_subnet_mask="24" is not a netmask such as 255.255.255.0`, "new_subnet_mask=24"),
		refused(textual+`"0.0.0.0/0" ends in the middle of a route to "0.0.0.0/0"`, textual+"0.0.0.0/0"),
		refused(textual+`"0 1.2.3.1" has "0" where a destination such as 10.0.0.0/8 belongs`, textual+"0 1.2.3.1"),
		refused(textual+`"0.0.0.0/33 1.2.3.1" has "0.0.0.0/33" where a destination such as 10.0.0.0/8 belongs`, textual+"0.0.0.0/33 1.2.3.1"),
		refused(textual+`"::/0 1.2.3.1" has "::/0" where a destination such as 10.0.0.0/8 belongs`, textual+"::/0 1.2.3.1"),
		refused(textual+`"0.0.0.0/0 gw" has "gw" where a router's address belongs`, textual+"0.0.0.0/0 gw"),
		refused(textual+`"0.0.0.0/0 1.2.3.1\n" has "1.2.3.1\n" where a router's address belongs`, textual+"0.0.0.0/0 1.2.3.1\n"),
		refused(textual+`" " has no route`, textual+" "),
	})
}

func FuzzDhcpcd(f *testing.F) {
	f.Add("BOUND", "dhcp", "true", "false", "eth0", "1.2.3.4", "255.255.255.0", "1.2.3.1", "")
	f.Add("RENEW", "dhcp", "true", "false", "eth0", "1.2.3.4", "", "1.2.3.1", "0.0.0.0/0 1.2.3.1 10.0.0.0/8 0.0.0.0")
	f.Add("NOCARRIER", "link", "false", "true", "eth0", "", "", "", "")
	f.Add("ROUTERADVERT", "ra", "true", "false", "eth0", "", "", "", "")
	f.Fuzz(func(t *testing.T, reason, protocol, ifUp, ifDown, iface, addr, mask, routers, routes string) {
		e, err := lease.Parse("dhcpcd", "", env{
			"reason": reason, "protocol": protocol, "if_up": ifUp, "if_down": ifDown, "interface": iface, "new_ip_address": addr,
			"new_subnet_mask": mask, "new_routers": routers, "new_classless_static_routes": routes,
		}.lookup)
		checkEvent(t, e, err)
	})
}
