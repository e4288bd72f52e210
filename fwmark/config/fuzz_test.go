package config

import (
	"slices"
	"strings"
	"testing"
	"unicode"

	"wg-multihome/fwmark"
)

// checkConfig fails the test where an intent is not one that anybody may act
// on, or a problem is not one line.
func checkConfig(t *testing.T, c Config) {
	t.Helper()
	seen := map[string]bool{}
	for _, in := range c.Intents {
		if err := fwmark.ValidName(in.Uplink); err != nil || seen[in.Uplink] {
			t.Errorf("uplink %q: %v", in.Uplink, err)
		}
		seen[in.Uplink] = true
		if m := in.Mark; !m.IsZero() && (m.Value == 0 || m.Value&^m.Mask != 0) {
			t.Errorf("mark %s", m)
		}
		for _, d := range in.Devices {
			if err := fwmark.ValidName(d); err != nil {
				t.Errorf("device %q: %v", d, err)
			}
		}
		for i, path := range in.Cgroups {
			checkPath(t, path)
			if slices.Contains(in.Cgroups[:i], path) {
				t.Errorf("cgroup %q twice", path)
			}
		}
		for _, f := range fwmark.Families {
			if g := in.Gateways[f]; g.IsValid() && fwmark.FamilyOf(g) != f {
				t.Errorf("gateway %s of IPv%s", g, f)
			}
		}
		for _, p := range slices.Concat(in.Through, in.Sources) {
			if !p.IsValid() || p != p.Masked() || p.Bits() < 7 {
				t.Errorf("prefix %s", p)
			}
		}
	}
	for _, p := range c.Problems {
		if strings.ContainsFunc(p.Text, unicode.IsControl) || len(p.Text) > 1000 {
			t.Errorf("problem %q", p.Text)
		}
	}
}

func FuzzTOML(f *testing.F) {
	f.Add("priority = 5\nhook-timeout = \"1s\"\n[uplink.a]\nfwmark = 5\ngateway = [\"1.2.3.4\"]\nwireguard = []\ncgroups = [\"\", \"a.service\", \"/system.slice/a.service\", \"../b\"]\n[wireguard.a]\nrotate-port = true")
	f.Add("[uplink.a]\nfwmark = \"0x1\n0\"")
	f.Add("group = 5\n[uplink.a]\nthrough = ['10.0.0.0/8', '::/0', '1.2.3.4']\nsource = '2001:db8:5::/56'")
	f.Fuzz(func(t *testing.T, text string) {
		c := Config{Priority: fwmark.DefaultPriority, HookTimeout: defaultHookTimeout, WireGuard: map[string]WireGuard{}}
		c.readTOML("f.toml", []byte(text))
		checkConfig(t, c)
		if c.Group > maxGroup {
			t.Errorf("group %d", c.Group)
		}
		if c.Priority != 0 && (c.Priority < minPriority || c.Priority > maxPriority) || c.HookTimeout <= 0 || c.HookTimeout > maxHookTimeout {
			t.Errorf("priority %d, hook-timeout %s", c.Priority, c.HookTimeout)
		}
	})
}

func FuzzIfquery(f *testing.F) {
	f.Add("metric: 5\nmultihomed-fwmark: 0x2005\nmultihomed-wireguard: wg0 wg1\nwg2\ngateway: 1.2.3.4\n")
	f.Add("address: 1.2.3.4/24\ngateway: 1.2.3.1\naddress: 2.3.4.5\ngateway: 2.3.4.1\nmultihomed-through: 10.0.0.0/8 ::/0\nmultihomed-source: fe80::/10\n2001:db8:5::/56\n")
	f.Add("auto eth0\ntemplate eth0\n  use link\n  address 1.2.3.4/24\n  gateway 1.2.3.1\n  multihomed-fwmark 0x5\n  multihomed-wireguard wg0 wg1\n\n")
	f.Add(`[{"name": "eth0", "config": {"multihomed-fwmark": "5", "address": ["1.2.3.4", 5, null], "gateway": {}}}, {"name": "eth0"}, {}]`)
	f.Add("wg2\nmultihomed-fwmark:\nmultihomed-fwmark: 1\n2\nmultihomed-x: \x00\nmultihomed-cgroup: a@b.service x-y.slice\n/../a /x\x00\n")
	f.Fuzz(func(t *testing.T, text string) {
		options := parseIfquery(text)
		if n := strings.Count(text, "\n") + 1; len(options) > n {
			t.Errorf("%d options in %d lines", len(options), n)
		}
		answers := []answer{{name: "eth0", options: options}, {name: "eth0", options: parseNG(text)}}
		together, _ := parseTogether(text)
		for _, a := range append(answers, together...) {
			c := Config{}
			c.Intents = append(c.Intents, c.stanza("eth0", "interfaces: iface eth0", a.options))
			checkConfig(t, c)
		}
	})
}

func FuzzInterfaces(f *testing.F) {
	f.Add("auto a\niface a inet dhcp inherits b\n gateway 1\\\n2\niface b inet loopback\nsource x y\nsource-directory z\n")
	f.Add("iface\niface a\ninherits a\niface a inherits\n")
	f.Fuzz(func(t *testing.T, text string) {
		p := parseInterfaces(text)
		if words := len(strings.Fields(text)); len(p.stanzas)+len(p.sources) > words {
			t.Errorf("%d stanzas and %d sources in %d words", len(p.stanzas), len(p.sources), words)
		}
		for _, kind := range []dialect{ifupdown, ifupdown2, ifupdownNG} {
			f := newFound(&stanzaFile{stanzas: p.stanzas}, kind)
			names := map[string]bool{}
			for _, name := range f.worth() {
				if names[name] {
					t.Errorf("stanza %q", name)
				}
				names[name] = true
				c := Config{}
				in := c.stanza(name, "interfaces: iface x", f.options(name))
				in.Uplink = "x"
				c.Intents = append(c.Intents, in)
				checkConfig(t, c)
			}
		}
	})
}
