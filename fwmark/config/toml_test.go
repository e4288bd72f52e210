package config

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"wg-multihome/fwmark"
)

func TestTOML(t *testing.T) {
	c := Config{Priority: fwmark.DefaultPriority, HookTimeout: defaultHookTimeout, WireGuard: map[string]WireGuard{}}
	c.readTOML("f.toml", []byte(`
priority = 20000
group = 2147483647
hook-timeout = "5s"
marking = "socket"
[uplink."enp2s0.5"]
fwmark = 0x2005
gateway = ["1.2.3.1", "fe80::1"]
wireguard = ["wg0"]
cgroups = []
marking = "packet"
[uplink.up1]
fwmark = "0x2000/0xff00"
gateway = "1.2.3.9"
cgroups = ["x-y.slice", "/x.slice/x-y.slice", "a.service"]
through = ["10.0.0.0/8", "fc00::/7", "169.254.169.254", "2400::/16"]
source = "2001:db8:5::/56"
[wireguard.wg0]
config = "/etc/wireguard/wg0.conf"
rotate-port = true
`))
	want := Config{
		Priority: 20000, Group: 2147483647, HookTimeout: 5e9, Marking: fwmark.BySocket,
		Intents: []fwmark.Intent{
			{
				Uplink: "enp2s0.5", Origin: `f.toml: uplink "enp2s0.5"`, Mark: mark(0x2005), Devices: []string{"wg0"}, Cgroups: []string{}, Marking: fwmark.ByPacket,
				Gateways: [2]netip.Addr{netip.MustParseAddr("1.2.3.1"), netip.MustParseAddr("fe80::1")},
			},
			{Uplink: "up1", Origin: `f.toml: uplink "up1"`, Mark: fwmark.Mark{Value: 0x2000, Mask: 0xff00}, Gateways: [2]netip.Addr{netip.MustParseAddr("1.2.3.9")}, Cgroups: []string{"x.slice/x-y.slice", "system.slice/a.service"},
				Through: prefixes("10.0.0.0/8", "fc00::/7", "169.254.169.254/32", "2400::/16"), Sources: prefixes("2001:db8:5::/56")},
		},
		WireGuard: map[string]WireGuard{"wg0": {Config: "/etc/wireguard/wg0.conf", RotatePort: true}},
	}
	if diff := cmp.Diff(want, c, addrs, cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTOMLErrors(t *testing.T) {
	for text, want := range map[string]string{
		"a = 1":                        `f.toml: key "a" is not known`,
		"cgrups = ['a']":               `f.toml: key "cgrups" is not known`,
		"fwmark = 7":                   `f.toml: key "fwmark" is not known here: it belongs below [uplink.NAME]`,
		"rotate-port = true":           `f.toml: key "rotate-port" is not known here: it belongs below [wireguard.NAME]`,
		"hook_timeout = '5s'":          `f.toml: key "hook_timeout" is not known (did you mean "hook-timeout"?)`,
		"[uplinks.up1]\nfwmark = 7":    `f.toml: key "uplinks" is not known (did you mean "uplink"?)`,
		"[\"up1.5\"]\nfwmark = 7":      `f.toml: key "up1.5" is not known; the table of an uplink is [uplink."up1.5"]`,
		"priority = ":                  "f.toml: line 1: ",
		"priority = 99":                "f.toml: priority = 99 is no number from 100 to 32761",
		"priority = 32762":             "f.toml: priority = 32762 is no number",
		`priority = "1000"`:            `f.toml: priority = "1000" is no number`,
		"group = 0":                    "f.toml: group = 0 is no number from 1 to 2147483647",
		"group = 2147483648":           "f.toml: group = 2147483648 is no number",
		`group = "uplinks"`:            `f.toml: group = "uplinks" is no number`,
		`hook-timeout = "-1s"`:         `f.toml: hook-timeout = "-1s" is no time`,
		"hook-timeout = 20":            "f.toml: hook-timeout = 20 is no time",
		`marking = "bpf"`:              `f.toml: marking = "bpf" is neither "socket" nor "packet"`,
		"marking = 1":                  `f.toml: marking = 1 is neither "socket" nor "packet"`,
		"[uplink.a]\nmarking = ''":     `f.toml: uplink "a": marking = "" is neither "socket" nor "packet"`,
		"uplink = 1":                   "f.toml: uplink = 1 is no table",
		"[uplink]\nup1 = 1":            `f.toml: uplink "up1" = 1 is no table`,
		"[uplink.\"a/b\"]":             `f.toml: uplink "a/b" is no interface name`,
		"[uplink.all]\nfwmark = 1":     `f.toml: uplink "all" is no interface name: to the kernel it is all interfaces (net.ipv4.conf.all)`,
		"[uplink.default]\nfwmark = 1": `f.toml: uplink "default" is no interface name: to the kernel it is interfaces to come (net.ipv4.conf.default)`,
		"[uplink.up1]\nfwmark = 1\nwireguard = ['all']": `f.toml: uplink "up1": wireguard: "all" is no interface name`,
		"[uplink.up1]\nmark = 1":                        `f.toml: key "mark" of uplink "up1" is not known (did you mean "fwmark" or "marking"?)`,
		"[uplink.up1]\ncgrups = ['a']":                  `f.toml: key "cgrups" of uplink "up1" is not known (did you mean "cgroups"?)`,
		"[uplink.up1]\nFwMark = 1":                      `f.toml: key "FwMark" of uplink "up1" is not known (did you mean "fwmark"?)`,
		"[uplink.up1]\nrotate-port = true":              `f.toml: key "rotate-port" of uplink "up1" is not known here: it belongs below [wireguard.NAME]`,
		"[uplink.up1]\npriority = 1000":                 `f.toml: key "priority" of uplink "up1" is not known here: it belongs above all tables`,
		"[wireguard.wg0]\nrotateport = true":            `f.toml: key "rotateport" of wireguard "wg0" is not known (did you mean "rotate-port"?)`,
		"[uplink.enp2s0.5]\nfwmark = 1":                 `f.toml: key "5" of uplink "enp2s0" is not known; a name with a dot takes quotes: [uplink."enp2s0.5"]`,
		"[uplink.a.b.c]":                                `f.toml: key "b" of uplink "a" is not known; a name with a dot takes quotes: [uplink."a.b.c"]`,
		"uplink.a.5.fwmark = 1":                         `f.toml: key "5" of uplink "a" is not known; a name with a dot takes quotes: [uplink."a.5"]`,
		"[wireguard.wg.0]\nrotate-port = true":          `f.toml: key "0" of wireguard "wg" is not known; a name with a dot takes quotes: [wireguard."wg.0"]`,
		"[uplink.up1]\nfwmark = 0":                      `f.toml: uplink "up1": fwmark: mark "0" is 0`,
		"[uplink.up1]\nfwmark = -5":                     `f.toml: uplink "up1": fwmark: mark "-5" is not a number`,
		"[uplink.up1]\nfwmark = 4294967296":             `f.toml: uplink "up1": fwmark: mark "4294967296" does not fit 32 bits`,
		"[uplink.up1]\nfwmark = \"5/2\"":                `f.toml: uplink "up1": fwmark: mark "5/2" has bits outside its mask`,
		"[uplink.up1]\nfwmark = 1.5":                    `f.toml: uplink "up1": fwmark = 1.5 is no mark`,
		"[uplink.up1]\ngateway = [\"1.2.3\"]":           `f.toml: uplink "up1": gateway: gateway "1.2.3" is no address`,
		"[uplink.up1]\ngateway = [\"::1\"]":             `f.toml: uplink "up1": gateway: gateway "::1" is no address of a router`,
		"[uplink.up1]\ngateway = [\"::2\", \"::3\"]":    `f.toml: uplink "up1": gateway: gateway "::3" is the second one of IPv6, after ::2`,
		"[uplink.up1]\nwireguard = [\"a b\"]":           `f.toml: uplink "up1": wireguard: "a b" is no interface name`,
		"[uplink.up1]\ncgroups = [1]":                   `f.toml: uplink "up1": cgroups: 1 is no name`,
		"[uplink.up1]\ncgroups = ['a', 'b/..']":         `f.toml: uplink "up1": cgroups: "b/.." is no path of a cgroup: it holds ".."`,
		"[uplink.up1]\ncgroups = {}":                    `f.toml: uplink "up1": cgroups = map[] is no list`,
		"[uplink.up1]\nthrough = 5":                     `f.toml: uplink "up1": through = 5 is no list of texts`,
		"[uplink.up1]\nthrough = ['::/0']":              `f.toml: uplink "up1": through: prefix "::/0" is too wide for one uplink: shorter than /16`,
		"[uplink.up1]\nthrough = ['128.0.0.0/1']":       `f.toml: uplink "up1": through: prefix "128.0.0.0/1" is too wide`,
		"[uplink.up1]\nthrough = ['2000::/3']":          `f.toml: uplink "up1": through: prefix "2000::/3" is too wide`,
		"[uplink.up1]\nthrough = ['127.0.0.0/8']":       `f.toml: uplink "up1": through: prefix "127.0.0.0/8" is none of unicast`,
		"[uplink.up1]\nthrough = ['::1']":               `f.toml: uplink "up1": through: prefix "::1" is none of unicast`,
		"[uplink.up1]\nthrough = ['::']":                `f.toml: uplink "up1": through: prefix "::" is none of unicast`,
		"[uplink.up1]\nthrough = ['0.1.0.0/16']":        `f.toml: uplink "up1": through: prefix "0.1.0.0/16" is none of unicast`,
		"[uplink.up1]\nthrough = ['224.0.0.0/24']":      `f.toml: uplink "up1": through: prefix "224.0.0.0/24" is none of unicast`,
		"[uplink.up1]\nthrough = ['255.255.255.255']":   `f.toml: uplink "up1": through: prefix "255.255.255.255" is none of unicast`,
		"[uplink.up1]\nthrough = ['ff00::/16']":         `f.toml: uplink "up1": through: prefix "ff00::/16" is none of unicast`,
		"[uplink.up1]\nthrough = ['fe80::/64']":         `f.toml: uplink "up1": through: prefix "fe80::/64" is link-local`,
		"[uplink.up1]\nthrough = ['::ffff:1.2.3.4']":    `f.toml: uplink "up1": through: prefix "::ffff:1.2.3.4" is none: write`,
		"[uplink.up1]\nthrough = ['fe80::1%eth0']":      `f.toml: uplink "up1": through: prefix "fe80::1%eth0" is none: write`,
		"[uplink.up1]\nthrough = ['10.1.0.0/8']":        `f.toml: uplink "up1": through: prefix "10.1.0.0/8" has bits behind its length: is it 10.0.0.0/8?`,
		"[uplink.up1]\nthrough = ['host.example']":      `f.toml: uplink "up1": through: prefix "host.example" is none: write`,
		"[uplink.up1]\nsource = ['::/0']":               `f.toml: uplink "up1": source: prefix "::/0" is too wide`,
		"[uplink.up1]\nsource = ['169.254.0.0/17']":     `f.toml: uplink "up1": source: prefix "169.254.0.0/17" is link-local`,
		"[uplink.up1]\nsource = ['168.0.0.0/7']":        `f.toml: uplink "up1": source: prefix "168.0.0.0/7" is too wide`,
		"[wireguard.wg0]\nconfig = \"wg0.conf\"":        `f.toml: wireguard "wg0": config = "wg0.conf" is no absolute path`,
		"[wireguard.wg0]\nrotate-port = 1":              `f.toml: wireguard "wg0": rotate-port = 1 is neither true nor false`,
		"[wireguard.wg0]\nprivate-key = 'x'":            `f.toml: key "private-key" of wireguard "wg0" is not known`,
		"[uplink.up1]\nfwmark = [\"" + long + "\", 5]":  `f.toml: uplink "up1": fwmark = [`,
	} {
		c := Config{WireGuard: map[string]WireGuard{}}
		c.readTOML("f.toml", []byte(text))
		if len(c.Problems) != 1 || !strings.HasPrefix(c.Problems[0].Text, want) || len(c.Problems[0].Text) > 400 {
			t.Errorf("%s\nsays %v\nwant %s", text, c.Problems, want)
		}
	}
}

// TestKeys: each key that may be suggested is one.
func TestKeys(t *testing.T) {
	for kind, list := range keys {
		for _, key := range list {
			text := key + " = true"
			if kind != "" {
				text = "[" + kind + ".a]\n" + text
			}
			c := Config{WireGuard: map[string]WireGuard{}}
			c.readTOML("f.toml", []byte(text))
			if len(c.Problems) > 0 && strings.Contains(c.Problems[0].Text, "is not known") {
				t.Errorf("%s\nsays %v", text, c.Problems)
			}
		}
	}
}

// TestCgroupThatIsNoUnit: a name without a unit's suffix is taken as it stands, and noted.
func TestCgroupThatIsNoUnit(t *testing.T) {
	c := Config{WireGuard: map[string]WireGuard{}}
	c.readTOML("f.toml", []byte("[uplink.up1]\ncgroups = ['transmission-daemon', 'a.service', 'b.socket', 'c.slice', '/d', 'e/f']\n"))
	c.stanza("up2", "interfaces: iface up2", []option{{optionCgroup, "squid a@b.service x.y"}})
	want := []string{
		`f.toml: uplink "up1": cgroups: "transmission-daemon" is taken for cgroup "system.slice/transmission-daemon", which is no unit's: for a service write "transmission-daemon.service"`,
		`interfaces: iface up2: multihomed-cgroup: "squid" is taken for cgroup "system.slice/squid", which is no unit's: for a service write "squid.service"`,
		`interfaces: iface up2: multihomed-cgroup: "x.y" is taken for cgroup "system.slice/x.y", which is no unit's: for a service write "x.y.service"`,
	}
	if diff := cmp.Diff(want, c.Notes); diff != "" || len(c.Problems) > 0 {
		t.Errorf("%v (-want +got):\n%s", c.Problems, diff)
	}
}
