package lease_test

import (
	"testing"

	"wg-multihome/policy/lease"
)

// goodUdhcpc is what udhcpc 1.35 says of a lease.
var goodUdhcpc = env{
	"interface": "enp2s0.5", "ip": "1.2.3.4", "subnet": "255.255.255.0", "mask": "24", "router": "1.2.3.1",
	"lease": "40", "serverid": "1.2.3.1", "siaddr": "1.2.3.1", "opt53": "05",
}

// withUdhcpc returns it with some variables changed.
func withUdhcpc(pairs ...string) env { return changed(goodUdhcpc, pairs) }

func TestUdhcpc(t *testing.T) {
	const lease = " enp2s0.5 1.2.3.4/24 via 1.2.3.1"
	link := env{"interface": "enp2s0.5"}
	six := env{"interface": "enp2s0.5", "ipv6": "2001:0db8:0000:0000:0000:0000:0000:0001", "lease": "40"}
	wantSaid(t, "udhcpc", []said{
		{"bound", "bound", withUdhcpc(), "leased bound" + lease + " fresh"},
		{"renew", "renew", withUdhcpc(), "leased renew" + lease},
		{"two routers", "renew", withUdhcpc("router=1.2.3.2 1.2.3.1"), "leased renew enp2s0.5 1.2.3.4/24 via 1.2.3.2"},
		{"no router", "bound", withUdhcpc("router="), "leased bound enp2s0.5 1.2.3.4/24 no gateway fresh"},
		{"no mask", "bound", withUdhcpc("subnet=", "mask="), "leased bound enp2s0.5 1.2.3.4/32 via 1.2.3.1 fresh"},
		{"121", "bound", withUdhcpc("staticroutes=0.0.0.0/0 1.2.3.7 10.50.0.0/16 1.2.3.1"), "leased bound enp2s0.5 1.2.3.4/24 via 1.2.3.7 fresh"},
		{"121, on-link default", "bound", withUdhcpc("staticroutes=0.0.0.0/0 0.0.0.0"), "leased bound enp2s0.5 1.2.3.4/24 no via fresh"},
		{"249", "bound", withUdhcpc("msstaticroutes=0.0.0.0/0 1.2.3.8"), "leased bound enp2s0.5 1.2.3.4/24 via 1.2.3.8 fresh"},
		{"deconfig", "deconfig", link, "lost deconfig enp2s0.5 if it is gone"},
		{"nak", "nak", env{"interface": "enp2s0.5", "ip": "0.0.0.0"}, "nothing nak"},
		{"leasefail", "leasefail", link, "nothing leasefail"},
		{"an action of the future", "expire", link, "nothing expire"},

		{"udhcpc6", "bound", six, "look bound enp2s0.5 of IPv6"},
		{"udhcpc6 of a prefix", "renew", env{"interface": "enp2s0.5", "ipv6prefix": "2001:db8::/56"}, "look renew enp2s0.5 of IPv6"},

		// The starter's environment is there as well.
		{"another client's words", "renew", withUdhcpc("reason=STOP", "new_ip_address=9.9.9.9", "new_routers=9.9.9.1", "protocol=dhcp", "if_down=true"), "leased renew" + lease},
		{"an IPv6 address of the starter", "renew", withUdhcpc("ipv6=2001:db8::1"), "leased renew" + lease},
		{"ip= of the kernel's command line", "bound", changed(six, []string{"ip=dhcp"}), "look bound enp2s0.5 of IPv6"},
	})
}

func TestUdhcpcRefuses(t *testing.T) {
	refused := func(want string, pairs ...string) said {
		return said{want: want, action: "bound", env: withUdhcpc(pairs...)}
	}
	wantRefused(t, "udhcpc", []said{
		refused(`ip="" is not set, in a lease`, "ip="),
		refused(`ip="0.0.0.0" is in 0.0.0.0/8`, "ip=0.0.0.0"),
		refused(`subnet="255.0.255.0" is a netmask with gaps`, "subnet=255.0.255.0", "mask=16"),
		refused(`interface="a/b" is no interface name: it holds '/'`, "interface=a/b"),
		refused(`staticroutes="0.0.0.0/0" ends in the middle of a route to "0.0.0.0/0"`, "staticroutes=0.0.0.0/0"),
		{want: `interface="" is empty, and no interface name`, action: "deconfig", env: env{}},
	})
}

func FuzzUdhcpc(f *testing.F) {
	f.Add("bound", "eth0", "1.2.3.4", "255.255.255.0", "1.2.3.1", "", "1.2.3.1", "")
	f.Add("renew", "eth0", "1.2.3.4", "", "", "0.0.0.0/0 1.2.3.1", "", "")
	f.Add("bound", "eth0", "", "", "", "", "", "2001:db8::1")
	f.Add("deconfig", "eth0", "", "", "", "", "", "")
	f.Fuzz(func(t *testing.T, action, iface, addr, mask, router, routes, server, six string) {
		e, err := lease.Parse("udhcpc", action, env{
			"interface": iface, "ip": addr, "subnet": mask, "router": router, "staticroutes": routes, "serverid": server, "ipv6": six,
		}.lookup)
		checkEvent(t, e, err)
	})
}
