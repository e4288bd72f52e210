package lease_test

import (
	"strings"
	"testing"

	"wg-multihome/policy/lease"
)

// with returns a good BOUND environment with some variables changed; pairs are
// name=value.
func with(pairs ...string) env { return changed(good, pairs) }

var good = env{
	"reason": "BOUND", "interface": "enp2s0.5", "pid": "71", "dad_wait_time": "0",
	"new_ip_address": "1.2.3.4", "new_subnet_mask": "255.255.255.0", "new_routers": "1.2.3.1",
	"new_network_number": "1.2.3.0", "new_broadcast_address": "1.2.3.255",
}

const option121 = "new_rfc3442_classless_static_routes="

func TestDhclient(t *testing.T) {
	for _, c := range []struct {
		name string
		env  env
		want string
	}{
		{"BOUND", with(), "leased BOUND enp2s0.5 1.2.3.4/24 via 1.2.3.1 fresh"},
		{"BOUND with an old lease", with("old_ip_address=9.9.9.9"), "leased BOUND enp2s0.5 1.2.3.4/24 via 1.2.3.1 fresh"},
		{"REBOOT", with("reason=REBOOT"), "leased REBOOT enp2s0.5 1.2.3.4/24 via 1.2.3.1 fresh"},
		{"TIMEOUT", with("reason=TIMEOUT"), "leased TIMEOUT enp2s0.5 1.2.3.4/24 via 1.2.3.1"},
		{"RENEW", with("reason=RENEW"), "leased RENEW enp2s0.5 1.2.3.4/24 via 1.2.3.1"},
		{"REBIND", with("reason=REBIND"), "leased REBIND enp2s0.5 1.2.3.4/24 via 1.2.3.1"},
		{"two routers", with("new_routers=1.2.3.2 1.2.3.1"), "leased BOUND enp2s0.5 1.2.3.4/24 via 1.2.3.2 fresh"},
		{"no router", with("new_routers="), "leased BOUND enp2s0.5 1.2.3.4/24 no gateway fresh"},
		{"no mask", with("new_subnet_mask="), "leased BOUND enp2s0.5 1.2.3.4/32 via 1.2.3.1 fresh"},
		{"/32", with("new_subnet_mask=255.255.255.255", "new_routers=172.31.1.1"), "leased BOUND enp2s0.5 1.2.3.4/32 via 172.31.1.1 fresh"},
		{"off-subnet router", with("new_routers=8.8.8.8"), "leased BOUND enp2s0.5 1.2.3.4/24 via 8.8.8.8 fresh"},
		{"121 with a default", with(option121 + "16 10 20 192 168 78 9 0 192 168 78 254 24 172 16 5 0 0 0 0"), "leased BOUND enp2s0.5 1.2.3.4/24 via 192.168.78.254 fresh"},
		{"121 without a default", with(option121 + "16 10 20 192 168 78 9"), "leased BOUND enp2s0.5 1.2.3.4/24 no gateway fresh"},
		{"121, on-link default", with(option121 + "0 0 0 0 0"), "leased BOUND enp2s0.5 1.2.3.4/24 no via fresh"},
		{"121, two defaults", with(option121 + "0 1 2 3 5 0 1 2 3 6"), "leased BOUND enp2s0.5 1.2.3.4/24 via 1.2.3.5 fresh"},
		{"121 set, routers bad", with(option121+"0 1 2 3 5", "new_routers=rubbish"), "leased BOUND enp2s0.5 1.2.3.4/24 via 1.2.3.5 fresh"},
		{"121, all lengths", with(option121 + "1 128 1 2 3 5 9 10 0 1 2 3 5 17 10 0 0 1 2 3 5 25 10 0 0 0 1 2 3 5 32 10 0 0 1 1 2 3 5 0 1 2 3 7"), "leased BOUND enp2s0.5 1.2.3.4/24 via 1.2.3.7 fresh"},
		{"121 empty", with(option121), "leased BOUND enp2s0.5 1.2.3.4/24 via 1.2.3.1 fresh"},
		{"longest name", with("interface=abcdefghijklmno"), "leased BOUND abcdefghijklmno 1.2.3.4/24 via 1.2.3.1 fresh"},

		{"EXPIRE", with("reason=EXPIRE", "new_ip_address=junk"), "lost EXPIRE enp2s0.5"},
		{"FAIL", env{"reason": "FAIL", "interface": "eth0"}, "lost FAIL eth0"},
		{"RELEASE", env{"reason": "RELEASE", "interface": "eth0", "old_ip_address": "junk"}, "lost RELEASE eth0"},
		{"STOP", env{"reason": "STOP", "interface": "eth0"}, "lost STOP eth0"},
		{"NBI", env{"reason": "NBI", "interface": "eth0"}, "lost NBI eth0"},

		{"PREINIT", env{"reason": "PREINIT", "interface": "a/b"}, "nothing PREINIT"},
		{"MEDIUM", env{"reason": "MEDIUM"}, "nothing MEDIUM"},
		{"ARPCHECK", env{"reason": "ARPCHECK"}, "nothing ARPCHECK"},
		{"ARPSEND", env{"reason": "ARPSEND"}, "nothing ARPSEND"},
		{"PREINIT6", env{"reason": "PREINIT6"}, "nothing PREINIT6"},

		{"BOUND6", env{"reason": "BOUND6", "interface": "eth0", "new_ip6_address": "2001:db8::1"}, "look BOUND6 eth0 of IPv6"},
		{"RENEW6", env{"reason": "RENEW6", "interface": "eth0", "new_ip6_prefix": "2001:db8::/56"}, "look RENEW6 eth0 of IPv6"},
		{"REBIND6", env{"reason": "REBIND6", "interface": "eth0"}, "look REBIND6 eth0 of IPv6"},
		{"DEPREF6", env{"reason": "DEPREF6", "interface": "eth0", "cur_ip6_address": "2001:db8::1"}, "look DEPREF6 eth0 of IPv6"},
		{"EXPIRE6", env{"reason": "EXPIRE6", "interface": "eth0"}, "look EXPIRE6 eth0 of IPv6"},
		{"RELEASE6", env{"reason": "RELEASE6", "interface": "eth0"}, "look RELEASE6 eth0 of IPv6"},
		{"STOP6", env{"reason": "STOP6", "interface": "eth0"}, "look STOP6 eth0 of IPv6"},
		{"case", env{"reason": "bound"}, "nothing bound"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := lease.Parse("dhclient", "", c.env.lookup)
			if err != nil {
				t.Fatal(err)
			}
			if got := show(e); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestDhclientRefuses(t *testing.T) {
	for _, c := range []struct {
		env  env
		want string
	}{
		{env{}, "not called by a DHCP client's hook: reason is not set"},
		{env{"reason": ""}, "not called by a DHCP client's hook: reason is not set"},

		{with("interface="), `interface="" is empty, and no interface name`},
		{with("reason=STOP", "interface=a/b"), `interface="a/b" is no interface name: it holds '/'`},
		{with("interface=eth0:0"), `interface="eth0:0" is no interface name: it holds ':'`},
		{with("interface=.."), `interface=".." is no interface name`},
		{with("interface=all"), `interface="all" is no interface name: to the kernel it is all interfaces (net.ipv4.conf.all)`},
		{with("reason=EXPIRE", "interface=default"), `interface="default" is no interface name: to the kernel it is interfaces to come (net.ipv4.conf.default)`},
		{with("interface=a b"), `interface="a b" is no interface name: it holds a blank`},
		{with("interface=a\nb"), `interface="a\nb" is no interface name: it holds a blank`},
		{with("interface=a\x1bb"), `interface="a\x1bb" is no interface name: it holds a control character`},
		{with("interface=abcdefghijklmnop"), `interface="abcdefghijklmnop" is no interface name: longer than 15 bytes`},

		{env{"reason": "BOUND6", "interface": ".."}, `interface=".." is no interface name`},
		{with("protocol=dhcp", "if_up=true"), `protocol="dhcp" and if_up="true" are what dhcpcd says, not dhclient: its hook is to say --client dhcpcd`},
		{with("reason=PREINIT", "protocol=link", "if_up=false"), `protocol="link" and if_up="false" are what dhcpcd says, not dhclient: its hook is to say --client dhcpcd`},

		{with("new_ip_address="), `new_ip_address="" is not set, in a lease`},
		{with("new_ip_address=1.2.3"), `new_ip_address="1.2.3" is not a plain IPv4 address`},
		{with("new_ip_address=01.2.3.4"), `new_ip_address="01.2.3.4" is not a plain IPv4 address`},
		{with("new_ip_address=1.2.3.4/24"), `new_ip_address="1.2.3.4/24" is not a plain IPv4 address`},
		{with("new_ip_address=1.2.3.4 "), `new_ip_address="1.2.3.4 " is not a plain IPv4 address`},
		{with("new_ip_address=1.2.3.256"), `new_ip_address="1.2.3.256" is not a plain IPv4 address`},
		{with("new_ip_address=::ffff:1.2.3.4"), `new_ip_address="::ffff:1.2.3.4" is not a plain IPv4 address`},
		{with("new_ip_address=2001:db8::1"), `new_ip_address="2001:db8::1" is not a plain IPv4 address`},
		{with("new_ip_address=$(reboot)"), `new_ip_address="$(reboot)" is not a plain IPv4 address`},
		{with("new_ip_address=0.1.2.3"), `new_ip_address="0.1.2.3" is in 0.0.0.0/8`},
		{with("new_ip_address=127.0.0.1"), `new_ip_address="127.0.0.1" is a loopback address`},
		{with("new_ip_address=169.254.7.7"), `new_ip_address="169.254.7.7" is a link-local address`},
		{with("new_ip_address=224.0.0.1"), `new_ip_address="224.0.0.1" is a multicast address`},
		{with("new_ip_address=240.0.0.1"), `new_ip_address="240.0.0.1" is in the reserved 240.0.0.0/4`},
		{with("new_ip_address=255.255.255.255"), `new_ip_address="255.255.255.255" is the broadcast address`},

		{with("new_subnet_mask=24"), `new_subnet_mask="24" is not a netmask such as 255.255.255.0`},
		{with("new_subnet_mask=ffff::"), `new_subnet_mask="ffff::" is not a netmask such as 255.255.255.0`},
		{with("new_subnet_mask=255.0.255.0"), `new_subnet_mask="255.0.255.0" is a netmask with gaps`},
		{with("new_subnet_mask=0.0.0.255"), `new_subnet_mask="0.0.0.255" is a netmask with gaps`},

		{with(option121 + "0 1 2 3"), option121 + `"0 1 2 3" ends in the middle of a route to a /0`},
		{with(option121 + "24 10 0 0 1 2 3"), option121 + `"24 10 0 0 1 2 3" ends in the middle of a route to a /24`},
		{with(option121 + "0 1 2 3 1 8"), option121 + `"0 1 2 3 1 8" ends in the middle of a route to a /8`},
		{with(option121 + "33 1 2 3 4 5 6 7 8 9"), option121 + `"33 1 2 3 4 5 6 7 8 9" has a prefix length of 33, over 32`},
		{with(option121 + "0 1 2 3 256"), option121 + `"0 1 2 3 256" has "256" where a number from 0 to 255 belongs`},
		{with(option121 + "0 1 2 3 -1"), option121 + `"0 1 2 3 -1" has "-1" where a number from 0 to 255 belongs`},
		{with(option121 + "0 1 2 3 01"), option121 + `"0 1 2 3 01" has "01" where a number from 0 to 255 belongs`},
		{with(option121 + "0.0.0.0/0 1.2.3.1"), option121 + `"0.0.0.0/0 1.2.3.1" has "0.0.0.0/0" where a number from 0 to 255 belongs`},
		{with(option121 + " "), option121 + `" " has no route`},
	} {
		t.Run(c.want, func(t *testing.T) {
			e, err := lease.Parse("dhclient", "", c.env.lookup)
			if err == nil {
				t.Fatalf("accepted: %s", show(e))
			}
			if err.Error() != c.want {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
			if e != (lease.Event{}) {
				t.Errorf("an event came with the error: %s", show(e))
			}
		})
	}
}

// TestBadRoutersAreLeftOut: the lease counts without them, and says which they
// were.
func TestBadRoutersAreLeftOut(t *testing.T) {
	const bound = "leased BOUND enp2s0.5 1.2.3.4/24 "
	for _, c := range []struct {
		env         env
		event, said string
	}{
		{with("new_routers=router"), "no gateway fresh", `new_routers="router" has a router that is not a plain IPv4 address: "router"`},
		{with("new_routers=1.2.3.1,1.2.3.2"), "no gateway fresh", `new_routers="1.2.3.1,1.2.3.2" has a router that is not a plain IPv4 address: "1.2.3.1,1.2.3.2"`},
		{with("new_routers=1.2.3.1 x"), "via 1.2.3.1 fresh", `new_routers="1.2.3.1 x" has a router that is not a plain IPv4 address: "x"`},
		{with("new_routers=x 1.2.3.1"), "via 1.2.3.1 fresh", `new_routers="x 1.2.3.1" has a router that is not a plain IPv4 address: "x"`},
		{with("new_routers=1.2.3.1\n1.2.3.2"), "no gateway fresh", `new_routers="1.2.3.1\n1.2.3.2" has a router that is not a plain IPv4 address: "1.2.3.1\n1.2.3.2"`},
		{with("new_routers=0.0.0.0"), "no gateway fresh", `new_routers="0.0.0.0" has a router that is in 0.0.0.0/8: "0.0.0.0"`},
		{with("new_routers=127.0.0.1 1.2.3.9"), "via 1.2.3.9 fresh", `new_routers="127.0.0.1 1.2.3.9" has a router that is a loopback address: "127.0.0.1"`},
		{with("new_routers=1.2.3.1 239.1.1.1"), "via 1.2.3.1 fresh", `new_routers="1.2.3.1 239.1.1.1" has a router that is a multicast address: "239.1.1.1"`},
		{with("new_routers=250.1.1.1"), "no gateway fresh", `new_routers="250.1.1.1" has a router that is in the reserved 240.0.0.0/4: "250.1.1.1"`},
		{with("new_routers=a b c d"), "no gateway fresh", `new_routers="a b c d" has a router that is not a plain IPv4 address: "a", ` +
			`a router that is not a plain IPv4 address: "b", a router that is not a plain IPv4 address: "c"`},
		{with("new_routers=1.2.3.4"), "no gateway fresh", `new_routers="1.2.3.4" has a router that is the leased address itself: "1.2.3.4"`},
		{with("new_routers=1.2.3.4 1.2.3.1"), "via 1.2.3.1 fresh", `new_routers="1.2.3.4 1.2.3.1" has a router that is the leased address itself: "1.2.3.4"`},
		{with("new_routers=169.254.1.1"), "via 169.254.1.1 fresh", ""},
		{with(option121 + "0 169 254 1 1"), "via 169.254.1.1 fresh", ""},
		{with(option121 + "0 127 0 0 1"), "no gateway fresh", option121 + `"0 127 0 0 1" has a router that is a loopback address: 127.0.0.1`},
		{with(option121 + "0 1 2 3 4"), "no gateway fresh", option121 + `"0 1 2 3 4" has a router that is the leased address itself: 1.2.3.4`},
		{with(option121 + "0 1 2 3 4 0 1 2 3 1"), "via 1.2.3.1 fresh", option121 + `"0 1 2 3 4 0 1 2 3 1" has a router that is the leased address itself: 1.2.3.4`},
		{with(option121 + "0 1 2 3 1 8 10 224 0 0 1"), "via 1.2.3.1 fresh", option121 + `"0 1 2 3 1 8 10 224 0 0 1" has a router that is a multicast address: 224.0.0.1`},
	} {
		e, err := lease.Parse("dhclient", "", c.env.lookup)
		if err != nil {
			t.Errorf("%v: %v", c.env, err)
			continue
		}
		said := ""
		if e.LeftOut != nil {
			said = e.LeftOut.Error()
		}
		if show(e) != bound+c.event || said != c.said {
			t.Errorf("got  %s: %s\nwant %s: %s", show(e), said, bound+c.event, c.said)
		}
	}
}

func TestDhclientErrorsAreShort(t *testing.T) {
	long := strings.Repeat("9\n", 60000)
	for _, name := range []string{"interface", "new_ip_address", "new_subnet_mask", "new_routers", strings.TrimSuffix(option121, "=")} {
		e, err := lease.Parse("dhclient", "", with(name+"="+long).lookup)
		if err == nil {
			err = e.LeftOut
		}
		if err == nil {
			t.Fatalf("%s: accepted", name)
		}
		if text := err.Error(); len(text) > 1000 || strings.Contains(text, "\n") || !strings.HasPrefix(text, name) {
			t.Errorf("%s: %d bytes: %s", name, len(text), text)
		}
	}
}

func FuzzDhclient(f *testing.F) {
	f.Add("BOUND", "eth0", "1.2.3.4", "255.255.255.0", "1.2.3.1", "")
	f.Add("RENEW", "enp2s0.5", "1.2.3.4", "", "1.2.3.1 1.2.3.2", "0 1 2 3 1")
	f.Add("FAIL", "eth0", "", "", "", "")
	f.Add("PREINIT", "", "", "", "", "")
	f.Fuzz(func(t *testing.T, reason, iface, addr, mask, routers, routes string) {
		e, err := lease.Parse("dhclient", "", env{
			"reason": reason, "interface": iface, "new_ip_address": addr, "new_subnet_mask": mask,
			"new_routers": routers, "new_rfc3442_classless_static_routes": routes,
		}.lookup)
		checkEvent(t, e, err)
	})
}

func FuzzOption121(f *testing.F) {
	f.Add("16 10 20 192 168 78 9 0 192 168 78 254 24 172 16 5 0 0 0 0")
	f.Add("0 0 0 0 0")
	f.Add("32 1 2 3 4 5 6 7 8")
	f.Add("33")
	f.Fuzz(func(t *testing.T, routes string) {
		e, err := lease.Parse("dhclient", "", with(option121+routes).lookup)
		checkEvent(t, e, err)
		if err != nil || routes == "" {
			return
		}
		// What is accepted is one route after the other, whatever the blanks.
		again, err := lease.Parse("dhclient", "", with(option121+strings.Join(strings.Fields(routes), " ")).lookup)
		if err != nil || show(again) != show(e) {
			t.Errorf("%q: %+v, then %+v %v", routes, e, again, err)
		}
	})
}
