package config

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"wg-multihome/fwmark"
)

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// ask reads interfaces(5) with the real ifquery, whose state is empty but for
// what ifstate says.
func ask(t *testing.T, interfaces, ifstate string) Config {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "interfaces"), strings.ReplaceAll(interfaces, "DIR", dir), 0o644)
	write(t, filepath.Join(dir, "state/ifstate"), ifstate, 0o644)
	c := Config{}
	path := filepath.Join(dir, "interfaces")
	c.readInterfaces(context.Background(), readStanzas(path), ifupdownFiles{
		file: path, query: ifquery{paths: ifqueryPaths, state: filepath.Join(dir, "state"), within: time.Minute}, peers: filepath.Join(dir, "peers"),
	})
	for i := range c.Intents {
		c.Intents[i].Origin = strings.ReplaceAll(c.Intents[i].Origin, dir, "DIR")
	}
	for i := range c.Problems {
		c.Problems[i].Text = strings.ReplaceAll(c.Problems[i].Text, dir, "DIR")
	}
	return c
}

func mark(value uint32) fwmark.Mark { return fwmark.Mark{Value: value, Mask: fwmark.FullMask} }

var addrs = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, s := range texts {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

func TestInterfaces(t *testing.T) {
	addr := netip.MustParseAddr
	for name, c := range map[string]struct {
		interfaces, ifstate string
		want                []fwmark.Intent
		problems            []string
	}{
		"the seed's example": {
			interfaces: "auto enp1s0\niface enp1s0 inet dhcp\n\tmetric 1024\n\nauto  enp2s0.5\niface enp2s0.5 inet dhcp\n\tmetric 2048\n\tmultihomed-fwmark 0x2005\n",
			want:       []fwmark.Intent{{Uplink: "enp2s0.5", Origin: "DIR/interfaces: iface enp2s0.5", Mark: mark(0x2005)}},
		},
		"repeated and continued options, both families": {
			interfaces: `iface eth0 inet static
	address 1.2.3.4/24
	gateway 1.2.3.1
	multihomed-fwmark 0x2000/0xff00
	multihomed-wireguard wg0 wg1
	multihomed-wireguard wg2 \
		wg0
	multihomed-cgroup a.service
	multihomed-cgroup user.slice/user-1000.slice /system.slice/a.service
	multihomed-rotate-port wg1
iface eth0 inet6 static
	address 2001:db8::2/64
	gateway 2001:db8::1
	multihomed-gateway 1.2.3.9 fe80::1
`,
			want: []fwmark.Intent{{
				Uplink: "eth0", Origin: "DIR/interfaces: iface eth0", Mark: fwmark.Mark{Value: 0x2000, Mask: 0xff00},
				Devices: []string{"wg0", "wg1", "wg2"}, Cgroups: []string{"system.slice/a.service", "user.slice/user-1000.slice"}, RotatePort: []string{"wg1"},
				Gateways:       [2]netip.Addr{addr("1.2.3.9"), addr("fe80::1")},
				StanzaGateways: [2]netip.Addr{addr("1.2.3.1"), addr("2001:db8::1")},
			}},
		},
		"a template is no uplink": {
			interfaces: "iface tpl inet dhcp\n multihomed-fwmark 7\niface eth0 inet dhcp inherits tpl\niface eth1 inet manual\n",
			want:       []fwmark.Intent{{Uplink: "eth0", Origin: "DIR/interfaces: iface eth0", Mark: mark(7)}},
		},
		"a logical name, and the stanza that it shadows": {
			interfaces: "iface eth0 inet dhcp\n multihomed-fwmark 5\niface home inet dhcp\n multihomed-fwmark 6\n",
			ifstate:    "lo=lo\neth0=home\n",
			want: []fwmark.Intent{
				{Origin: "DIR/interfaces: iface eth0", Mark: mark(5)},
				{Uplink: "eth0", Origin: "DIR/interfaces: iface home", Mark: mark(6)},
			},
		},
		"a stanza that is up under its own name": {
			interfaces: "iface eth0 inet dhcp\n multihomed-fwmark 5\n", ifstate: "eth0=eth0\n",
			want: []fwmark.Intent{{Uplink: "eth0", Origin: "DIR/interfaces: iface eth0", Mark: mark(5)}},
		},
		"a logical name that no interface can have": {
			interfaces: "iface the-network-at-home inet dhcp\n multihomed-fwmark 6\niface the-network-of-friends inet static\n address 1.2.3.4/24\n gateway 1.2.3.1\n",
			ifstate:    "eth0=the-network-at-home\n",
			want:       []fwmark.Intent{{Uplink: "eth0", Origin: "DIR/interfaces: iface the-network-at-home", Mark: mark(6)}},
		},
		"a logical name that no interface can have, and none has": {
			interfaces: "iface the-network-at-home inet dhcp\n multihomed-fwmark 6\n",
			want:       []fwmark.Intent{{Origin: "DIR/interfaces: iface the-network-at-home", Mark: mark(6)}},
		},
		"a stanza of all interfaces": {
			interfaces: "iface all inet dhcp\n multihomed-fwmark 6\niface all inet6 auto\n",
			want:       []fwmark.Intent{{Origin: "DIR/interfaces: iface all", Mark: mark(6)}},
			problems:   []string{`DIR/interfaces: iface all: "all" is no interface name: to the kernel it is all interfaces (net.ipv4.conf.all)`},
		},
		"a logical name that stands for all interfaces elsewhere": {
			interfaces: "iface default inet dhcp\n multihomed-fwmark 6\niface all inet dhcp\n", ifstate: "eth0=default\nall=all\n",
			want: []fwmark.Intent{{Uplink: "eth0", Origin: "DIR/interfaces: iface default", Mark: mark(6)}},
		},
		"an alias": {
			interfaces: "iface eth0 inet dhcp\n multihomed-fwmark 5\niface eth0:1 inet static\n address 1.2.3.4/24\n gateway 1.2.3.1\niface eth1:home inet dhcp\n multihomed-fwmark 6\n",
			ifstate:    "eth0=eth0\neth0:1=eth0:1\n",
			want: []fwmark.Intent{
				{Uplink: "eth0", Origin: "DIR/interfaces: iface eth0", Mark: mark(5)},
				{Uplink: "eth0", Origin: "DIR/interfaces: iface eth0:1", AddressGateways: map[netip.Addr]netip.Addr{addr("1.2.3.4"): addr("1.2.3.1")}},
				{Uplink: "eth1", Origin: "DIR/interfaces: iface eth1:home", Mark: mark(6)},
			},
		},
		"names that ifquery takes for something else": {
			interfaces: "iface /eth* inet dhcp\n multihomed-fwmark 5\niface a=b inet dhcp\n multihomed-fwmark 6\n",
			want: []fwmark.Intent{
				{Origin: "DIR/interfaces: iface /eth*", Mark: mark(5)},
				{Origin: "DIR/interfaces: iface a=b", Mark: mark(6)},
			},
			problems: []string{
				`DIR/interfaces: iface "/eth*" cannot be asked for: it holds one of /=`,
				`DIR/interfaces: iface "a=b" cannot be asked for: it holds one of /=`,
			},
		},
		"two stanzas of one name, each with its address and gateway": {
			interfaces: "iface eth0 inet static\n address 1.2.3.4\n netmask 255.255.255.0\n gateway 1.2.3.1\niface eth0 inet static\n address 5.6.7.8/24\n gateway 5.6.7.1\n",
			want: []fwmark.Intent{{
				Uplink: "eth0", Origin: "DIR/interfaces: iface eth0", StanzaGateways: [2]netip.Addr{addr("1.2.3.1")},
				AddressGateways: map[netip.Addr]netip.Addr{addr("5.6.7.8"): addr("5.6.7.1")},
			}},
		},
		"two stanzas, of which one has a gateway: whose it is cannot be told": {
			interfaces: "iface eth0 inet static\n address 1.2.3.4/24\n gateway 1.2.3.1\n gateway 1.2.3.2\niface eth0 inet static\n address 5.6.7.8/24\niface eth0 inet static\n address 9.6.7.8/24\n",
			want: []fwmark.Intent{{
				Uplink: "eth0", Origin: "DIR/interfaces: iface eth0", StanzaGateways: [2]netip.Addr{addr("1.2.3.1")},
			}},
		},
		"destinations for all, and addresses elsewhere": {
			interfaces: "iface eth0 inet dhcp\n multihomed-through 198.51.100.0/24 203.0.113.9\n multihomed-through 198.51.100.0/24\n multihomed-source 2001:db8:5::/56\n",
			want: []fwmark.Intent{{
				Uplink: "eth0", Origin: "DIR/interfaces: iface eth0", Through: prefixes("198.51.100.0/24", "203.0.113.9/32"), Sources: prefixes("2001:db8:5::/56"),
			}},
		},
		"prefixes that are none": {
			interfaces: "iface eth0 inet dhcp\n multihomed-through 0.0.0.0/0 x 203.0.113.9\n multihomed-source fe80::/64 2001:db8:5::1/56\n",
			want:       []fwmark.Intent{{Uplink: "eth0", Origin: "DIR/interfaces: iface eth0", Through: prefixes("203.0.113.9/32")}},
			problems: []string{
				`DIR/interfaces: iface eth0: multihomed-through: prefix "0.0.0.0/0" is too wide for one uplink: shorter than /8`,
				`DIR/interfaces: iface eth0: multihomed-through: prefix "x" is none: write it as 198.51.100.0/24 or 2001:db8::/56`,
				`DIR/interfaces: iface eth0: multihomed-source: prefix "fe80::/64" is link-local: it is on each link`,
				`DIR/interfaces: iface eth0: multihomed-source: prefix "2001:db8:5::1/56" has bits behind its length: is it 2001:db8:5::/56?`,
			},
		},
		"services marked by socket": {
			interfaces: "iface eth0 inet dhcp\n multihomed-marking socket\niface eth0 inet6 auto\n multihomed-marking socket\n",
			want:       []fwmark.Intent{{Uplink: "eth0", Origin: "DIR/interfaces: iface eth0", Marking: fwmark.BySocket}},
		},
		"two ways of marking": {
			interfaces: "iface eth0 inet dhcp\n multihomed-marking socket\n multihomed-marking packet\niface eth1 inet dhcp\n multihomed-marking bpf\n",
			want: []fwmark.Intent{
				{Uplink: "eth0", Origin: "DIR/interfaces: iface eth0", Marking: fwmark.Undecided},
				{Uplink: "eth1", Origin: "DIR/interfaces: iface eth1", Marking: fwmark.Undecided},
			},
			problems: []string{
				`DIR/interfaces: iface eth0: multihomed-marking is said twice: socket and packet`,
				`DIR/interfaces: iface eth1: multihomed-marking: "bpf" is neither "socket" nor "packet"`,
			},
		},
		"gateway none": {
			interfaces: "iface eth0 inet static\n address 1.2.3.4/24\n gateway none\n",
			want:       []fwmark.Intent{{Uplink: "eth0", Origin: "DIR/interfaces: iface eth0"}},
		},
		"loopback is no uplink": {interfaces: "iface lo inet loopback\n multihomed-fwmark 5\n"},
		"a mark that is none": {
			interfaces: "iface eth0 inet dhcp\n multihomed-fwmark x\n multihomed-wireguard wg0\n",
			want:       []fwmark.Intent{{Uplink: "eth0", Origin: "DIR/interfaces: iface eth0", Devices: []string{"wg0"}}},
			problems:   []string{`DIR/interfaces: iface eth0: multihomed-fwmark: mark "x" is not a number`},
		},
		"two marks": {
			interfaces: "iface eth0 inet dhcp\n multihomed-fwmark 5\niface eth0 inet6 auto\n multihomed-fwmark 6\n",
			want:       []fwmark.Intent{{Uplink: "eth0", Origin: "DIR/interfaces: iface eth0"}},
			problems:   []string{"DIR/interfaces: iface eth0: multihomed-fwmark is said twice: 0x5 and 0x6"},
		},
		"mistyped options": {
			interfaces: "iface eth0 inet dhcp\n multihome-fwmark 5\n mulithomed-cgroup a.service\n multihomed-uplink x\n mtu 1500\n metric 1\n",
			want:       []fwmark.Intent{{Uplink: "eth0", Origin: "DIR/interfaces: iface eth0"}},
			problems: []string{
				`DIR/interfaces: iface eth0: option "multihome-fwmark" is not known (did you mean "multihomed-fwmark"?)`,
				`DIR/interfaces: iface eth0: option "mulithomed-cgroup" is not known (did you mean "multihomed-cgroup"?)`,
				`DIR/interfaces: iface eth0: option "multihomed-uplink" is not known`,
			},
		},
		"an unknown option, and one with underscores": {
			interfaces: "iface eth0 inet dhcp\n multihomed-mark 5\n multihomed_fwmark 6\n",
			want:       []fwmark.Intent{{Uplink: "eth0", Origin: "DIR/interfaces: iface eth0"}},
			problems: []string{
				`DIR/interfaces: iface eth0: option "multihomed-mark" is not known (did you mean "multihomed-fwmark"?)`,
				`DIR/interfaces: iface eth0: option "multihomed_fwmark" is not known (did you mean "multihomed-fwmark"?)`,
			},
		},
		"gateways that are none": {
			interfaces: "iface eth0 inet dhcp\n multihomed-gateway router.lan 127.0.0.1 1.2.3.1 1.2.3.2\n",
			want:       []fwmark.Intent{{Uplink: "eth0", Origin: "DIR/interfaces: iface eth0", Gateways: [2]netip.Addr{addr("1.2.3.1")}}},
			problems: []string{
				`DIR/interfaces: iface eth0: multihomed-gateway: gateway "router.lan" is no address`,
				`DIR/interfaces: iface eth0: multihomed-gateway: gateway "127.0.0.1" is no address of a router`,
				`DIR/interfaces: iface eth0: multihomed-gateway: gateway "1.2.3.2" is the second one of IPv4, after 1.2.3.1`,
			},
		},
		"a device name that is none": {
			interfaces: "iface eth0 inet dhcp\n multihomed-fwmark 5\n multihomed-wireguard a/b wg0\n",
			want:       []fwmark.Intent{{Uplink: "eth0", Origin: "DIR/interfaces: iface eth0", Mark: mark(5), Devices: []string{"wg0"}}},
			problems:   []string{`DIR/interfaces: iface eth0: multihomed-wireguard: "a/b" is no interface name: it holds '/'`},
		},
		"cgroups that are none": {
			interfaces: "iface eth0 inet dhcp\n multihomed-fwmark 5\n multihomed-cgroup ../a /\n multihomed-cgroup a.service b@.service\n",
			want:       []fwmark.Intent{{Uplink: "eth0", Origin: "DIR/interfaces: iface eth0", Mark: mark(5), Cgroups: []string{"system.slice/a.service"}}},
			problems: []string{
				`DIR/interfaces: iface eth0: multihomed-cgroup: "../a" is no path of a cgroup: it holds ".."`,
				`DIR/interfaces: iface eth0: multihomed-cgroup: "/" is the root of all cgroups, or nothing`,
				`DIR/interfaces: iface eth0: multihomed-cgroup: "b@.service" is a template and has no cgroup: name an instance, as b@NAME.service`,
			},
		},
		"a file that ifquery refuses": {
			interfaces: "iface eth0 inet dhcp\n multihomed-fwmark 5\niface eth1\n",
			want:       []fwmark.Intent{{Uplink: "eth0", Origin: "DIR/interfaces: iface eth0", Mark: mark(5)}},
			problems:   []string{`DIR/interfaces: iface eth0: ifquery failed: exit status 1: "ifquery: DIR/interfaces:3: unknown or no address type and no inherits keyword specified\nifquery: couldn't read interfaces file \"DIR/interfaces\""; what the text says counts`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := ask(t, c.interfaces, c.ifstate)
			var problems []string
			for _, p := range got.Problems {
				problems = append(problems, p.Text)
			}
			if diff := cmp.Diff(c.want, got.Intents, addrs); diff != "" {
				t.Errorf("intents (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.problems, problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSourcedFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "interfaces"), "source interfaces.d/*.cfg\nsource-directory more\nsource interfaces\n", 0o644)
	write(t, filepath.Join(dir, "interfaces.d/a.cfg"), "iface eth0 inet dhcp\n multihomed-fwmark 5\n", 0o644)
	write(t, filepath.Join(dir, "more/eth1"), "iface eth1 inet dhcp\n multihomed-fwmark 6\n", 0o644)
	write(t, filepath.Join(dir, "more/eth2.dpkg-old"), "iface eth2 inet dhcp\n multihomed-fwmark 7\n", 0o644)
	names := newFound(readStanzas(filepath.Join(dir, "interfaces")), ifupdown).worth()
	if want := []string{"eth0", "eth1"}; !slices.Equal(names, want) {
		t.Errorf("found %v, want %v", names, want)
	}
}

// TestIfqueryIsAskedOnlyWhereItMatters: a host whose stanzas say nothing to us
// pays for no process, and needs no ifquery.
func TestIfqueryIsAskedOnlyWhereItMatters(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "interfaces")
	read := func(text string) []fwmark.Problem {
		write(t, path, text, 0o644)
		c := Config{}
		c.readInterfaces(context.Background(), readStanzas(path), ifupdownFiles{file: path, query: ifquery{paths: []string{filepath.Join(dir, "none")}}})
		return c.Problems
	}
	if p := read("auto eth0\niface eth0 inet dhcp\n metric 5\n"); len(p) != 0 {
		t.Errorf("problems: %v", p)
	}
	// ifupdown2 is slow: for gateways alone it is not asked.
	write(t, filepath.Join(dir, "ifupdown2"), "#!/bin/sh\nexit 9\n", 0o755)
	const gateways = "iface eth0 inet static\n address 192.0.2.2/24\n gateway 192.0.2.1\niface swp[1-4]\n gateway 192.0.2.9\n"
	write(t, path, gateways, 0o644)
	c := Config{}
	c.readInterfaces(context.Background(), readStanzas(path), ifupdownFiles{file: path, query: ifquery{paths: []string{filepath.Join(dir, "ifupdown2")}}})
	if len(c.Problems) != 0 || len(c.Intents) != 1 || c.Intents[0].StanzaGateways[fwmark.IPv4] != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("ifupdown2: %+v", c)
	}
	p := read("iface eth0 inet dhcp\n multihomed-fwmark 5\n")
	if len(p) != 1 || !strings.Contains(p[0].Text, "iface eth0: ifquery is not installed") {
		t.Errorf("problems: %v", p)
	}
}

func TestIfqueryThatMisbehaves(t *testing.T) {
	for name, c := range map[string]struct{ script, say string }{
		"fails":      {"echo broken >&2; exit 7", `ifquery failed: exit status 7: "broken"`},
		"says a lot": {"head -c 2000000 /dev/zero", "ifquery said more than"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "ifquery"), "#!/bin/sh\n"+c.script+"\n", 0o755)
			answers := ifquery{}.ask(context.Background(), filepath.Join(dir, "ifquery"), ifupdown, "file", []string{"eth0"})
			if err := answers[0].err; err == nil || !strings.Contains(err.Error(), c.say) {
				t.Errorf("error: %v, want %q", err, c.say)
			}
		})
	}
}

// TestOneCgroupInTwoSpellings is claimed by two uplinks, and so is nobody's.
func TestOneCgroupInTwoSpellings(t *testing.T) {
	c := Config{}
	c.readTOML("f.toml", []byte("[uplink.a]\nfwmark = 1\ncgroups = ['x-y@i.service', 'b']\n[uplink.b]\nfwmark = 2\ncgroups = '/system.slice/system-x\\x2dy.slice/x-y@i.service'\n"))
	pins, problems := fwmark.Resolve(c.Intents, c.Problems, nil, nil, nil)
	if len(problems) != 1 || !strings.Contains(problems[0].Text, "claimed by uplink") {
		t.Errorf("problems: %v", problems)
	}
	if !slices.Equal(pins[0].Cgroups, []string{"system.slice/b"}) || len(pins[1].Cgroups) != 0 {
		t.Errorf("pins: %v", pins)
	}
}

var long = strings.Repeat("x", 5000)

func TestLoadFiles(t *testing.T) {
	dir := t.TempDir()
	absent, fifo := filepath.Join(dir, "absent.toml"), filepath.Join(dir, "directory")
	if err := os.Mkdir(fifo, 0o755); err != nil {
		t.Fatal(err)
	}
	c := Load(context.Background(), Files{Interfaces: absent, TOML: absent})
	if c.Priority != 32752 || c.HookTimeout != 20e9 || len(c.Problems)+len(c.Intents) != 0 {
		t.Errorf("without files: %+v", c)
	}
	c = Load(context.Background(), Files{TOML: absent, TOMLNamed: true})
	if c.Priority != 0 || len(c.Problems) != 1 || !strings.Contains(c.Problems[0].Text, absent) {
		t.Errorf("an absent named file: %+v", c)
	}
	c = Load(context.Background(), Files{TOML: fifo, TOMLNamed: true})
	if c.Priority != 0 || len(c.Problems) != 1 {
		t.Errorf("a directory: %+v", c)
	}
}
