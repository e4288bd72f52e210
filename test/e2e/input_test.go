package e2e

import (
	"os"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// oneLine fails the test unless the program refused with exit status 2 and one
// line that holds all parts.
func oneLine(t *testing.T, r lab.Result, parts ...string) {
	t.Helper()
	wantCode(t, r, 2)
	if n := strings.Count(r.Stderr, "\n"); n != 1 || r.Stdout != "" {
		t.Errorf("%d lines, want one:\n%s%s", n, r.Stdout, r.Stderr)
	}
	for _, part := range parts {
		wantPart(t, "the line", r.Stderr, part)
	}
}

func TestBadLeaseEvents(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.MustMH("sync")
	before := l.State()
	good := map[string]string{
		"reason": "BOUND", "interface": "up2", "new_ip_address": "198.51.100.10",
		"new_subnet_mask": "255.255.255.0", "new_routers": "198.51.100.1",
	}
	const option121 = "new_rfc3442_classless_static_routes"
	for _, bad := range []struct{ variable, value string }{
		{"reason", ""},
		{"interface", ""}, {"interface", "../../etc/passwd"}, {"interface", "a b"}, {"interface", "sixteen-letters-"}, {"interface", "up2\a"},
		{"new_ip_address", ""}, {"new_ip_address", "1.2.3"}, {"new_ip_address", "198.51.100.10/24"}, {"new_ip_address", "0.1.2.3"},
		{"new_ip_address", "127.0.0.1"}, {"new_ip_address", "224.0.0.1"}, {"new_ip_address", "240.0.0.1"}, {"new_ip_address", "169.254.1.1"},
		{"new_ip_address", "$(reboot)"}, {"new_ip_address", "2001:db8::1"},
		{option121, "24 10 0"}, {option121, "33 10 0 0 0 0 1 2 3 4"}, {option121, "0 256 1 1 1"}, {option121, "0 a b c d"},
	} {
		var env []string
		for k, v := range good {
			if k != bad.variable {
				env = append(env, k+"="+v)
			}
		}
		r := l.Event(append(env, bad.variable+"="+bad.value)...)
		if bad.value == "" {
			oneLine(t, r, bad.variable)
		} else {
			oneLine(t, r, bad.variable+"=")
		}
		if l.Read("/run/wg-multihome/leases/up2.json") != "" {
			t.Fatalf("%s=%q was recorded", bad.variable, bad.value)
		}
	}
	wantEqual(t, "state", l.State(), before)
}

// TestRefusedLeaseConverges: what the client did to the interface counts, though
// nothing of its event does.
func TestRefusedLeaseConverges(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.MustMH("sync")
	l.Script("ip addr add 198.51.100.30/24 dev up2; ip addr del 198.51.100.10/24 dev up2")
	r := l.Event("reason=RENEW", "interface=up2", "new_ip_address=198.51.100.30", "new_subnet_mask=255.0.255.0", "new_routers=198.51.100.1")
	wantCode(t, r, 2)
	wantPart(t, "what it said", r.Stderr, "new_subnet_mask=")
	wantNone(t, "rules", l.Rules("-4"), "from 198.51.100.10 ")
	l.WantSeen(lab.Far4, "198.51.100.30", 0, "198.51.100.30")
	l.WantSeen(lab.Far4, "", mark, "198.51.100.30")
	noDrift(t, l)
	noSpoof(t, l)
}

// TestBadRoutersAreLeftOut: of a list the good one counts, and without a good one
// main's default does.
func TestBadRoutersAreLeftOut(t *testing.T) {
	for routers, table := range map[string]string{
		"198.51.100.1 127.0.0.1": "default via 198.51.100.1 dev up2 proto 77 src 198.51.100.10",
		"nonsense 198.51.100.1":  "default via 198.51.100.1 dev up2 proto 77 src 198.51.100.10",
		"255.255.255.255":        "default via 198.51.100.1 dev up2 proto 77 src 198.51.100.10",
		"198.51.100.10":          "default via 198.51.100.1 dev up2 proto 77 src 198.51.100.10",
		"169.254.1.1":            "default via 169.254.1.1 dev up2 proto 77 src 198.51.100.10 onlink",
	} {
		t.Run(routers, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.ISP2.Script("ip addr add 169.254.1.1/32 dev home")
			l.Interfaces(pinned)
			r := l.Event("reason=BOUND", "interface=up2", "new_ip_address=198.51.100.10", "new_subnet_mask=255.255.255.0", "new_routers="+routers)
			wantCode(t, r, 0)
			if left := strings.Contains(r.Stderr, "left out"); left == (routers == "169.254.1.1") {
				t.Errorf("it said:\n%s", r.Stderr)
			}
			wantEqual(t, "table", l.Default("3325256714"), table)
			l.WantSeen(lab.Far4, "", mark, two4)
			l.WantSeen(lab.Far4, two4, 0, two4)
			noDrift(t, l)
			noSpoof(t, l)
		})
	}
}

func TestUsageErrors(t *testing.T) {
	l := newLab(t)
	before := l.State()
	for _, args := range [][]string{{"bogus"}, {"explain"}, {"doctor", "x"}, {"watch", "x"}, {}, {"sync", "x"}, {"sync", "--bogus"}, {"status", "--json=maybe"}, {"exit-hook", "--client", "nobody"}} {
		oneLine(t, l.MH(args...))
	}
	oneLine(t, l.MH("sync", "--config", "/run/absent.toml"), "/run/absent.toml")
	wantCode(t, l.MH("sync", "--hook", "--config", "/run/absent.toml"), 0)
	wantCode(t, l.MH("sync", "--hook", "--bogus"), 0)
	wantCode(t, l.MH("sync", "--hook=1", "--bogus"), 0)
	oneLine(t, l.MH("sync", "--hook=false", "--bogus"))
	wantEqual(t, "state", l.State(), before)
}

func TestHelp(t *testing.T) {
	l := newLab(t)
	for _, command := range []string{"exit-hook", "sync", "hook", "plan", "status", "explain", "doctor", "down", "install", "uninstall"} {
		help := l.MustMH(command, "--help").Stdout
		for _, word := range []string{"Reads:", "Writes:", "Exits with"} {
			wantPart(t, "help of "+command, help, word)
		}
	}
}

// TestWithoutPrivilege runs as root without the capability, and as nobody.
func TestWithoutPrivilege(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	before := l.State()
	for _, command := range [][]string{{"sync"}, {"down"}} {
		for _, as := range [][]string{
			{"setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"},
			{"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"},
		} {
			r := l.Try(nil, append(append(as, l.Binary), command...)...)
			wantCode(t, r, 1)
			if strings.Count(r.Stderr, "\n") != 1 || !strings.Contains(r.Stderr, "CAP_NET_ADMIN") {
				t.Errorf("%v %v said:\n%s", as, command, r.Stderr)
			}
		}
	}
	wantEqual(t, "state", l.State(), before)
	// Looking takes none.
	r := l.Try(nil, "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", l.Binary, "plan")
	wantCode(t, r, 0)
	wantPart(t, "plan", r.Stdout, "+ rule 4 32754 fwmark 0x2005 unreachable")
}

// TestConfigurationErrors has a case for each error of the configuration. The
// valid part is converged, and nothing that stands is taken away.
func TestConfigurationErrors(t *testing.T) {
	const other = "\niface up1 inet dhcp\n\tmultihomed-fwmark 0x1001\n"
	for name, c := range map[string]struct {
		interfaces, toml string
		say              []string
	}{
		"mark is no number":    {interfaces: "iface up2 inet dhcp\n multihomed-fwmark abc\n", say: []string{"/etc/network/interfaces", "iface up2", `"abc"`}},
		"mark is 0":            {interfaces: "iface up2 inet dhcp\n multihomed-fwmark 0\n", say: []string{"iface up2", `"0"`}},
		"mark is too large":    {interfaces: "iface up2 inet dhcp\n multihomed-fwmark 0x100000000\n", say: []string{"0x100000000"}},
		"bits outside mask":    {interfaces: "iface up2 inet dhcp\n multihomed-fwmark 0x2005/0xff\n", say: []string{"0x2005/0xff"}},
		"marks overlap":        {interfaces: "iface up2 inet dhcp\n multihomed-fwmark 0x2005\niface up3 inet dhcp\n multihomed-fwmark 0x2000/0xff00\n", say: []string{"up2", "up3", "0x2005", "0x2000/0xff00"}},
		"device claimed twice": {interfaces: "iface up2 inet dhcp\n multihomed-fwmark 0x2005\n multihomed-wireguard wg0\niface up3 inet dhcp\n multihomed-fwmark 3\n multihomed-wireguard wg0\n", say: []string{"wg0", "up2", "up3"}},
		"cgroup claimed twice": {interfaces: "iface up2 inet dhcp\n multihomed-fwmark 0x2005\n multihomed-cgroup a.service\niface up3 inet dhcp\n multihomed-fwmark 3\n multihomed-cgroup a.service\n", say: []string{"a.service", "up2", "up3"}},
		"wireguard unmarked":   {interfaces: "iface up2 inet dhcp\n multihomed-wireguard wg0\n", say: []string{"up2", "wg0"}},
		"cgroup unmarked":      {interfaces: "iface up2 inet dhcp\n multihomed-cgroup a.service\n", say: []string{"up2", "a.service"}},
		"uplink in both files": {interfaces: "iface up2 inet dhcp\n multihomed-fwmark 0x2005\n", toml: "[uplink.up2]\nfwmark = 9\n", say: []string{"/etc/network/interfaces", "/run/wg-multihome.toml", "up2"}},
		"mark is a table":      {interfaces: "iface up2 inet dhcp\n multihomed-fwmark 3325256714\n", say: []string{"198.51.100.10", "up2"}},
		"unknown option":       {interfaces: "iface up2 inet dhcp\n multihomed-fwmrk 0x2005\n", say: []string{"multihomed-fwmrk", "iface up2"}},
		"unknown TOML key":     {toml: "colour = 1\n", say: []string{"/run/wg-multihome.toml", "colour"}},
		"unknown uplink key":   {toml: "[uplink.up2]\nmark = 1\n", say: []string{"/run/wg-multihome.toml", "up2", "mark"}},
		"TOML syntax":          {toml: "priority = \n", say: []string{"/run/wg-multihome.toml", "line 1"}},
		"priority":             {toml: "priority = 99\n", say: []string{"99"}},
		"gateway of no family": {interfaces: "iface up2 inet dhcp\n multihomed-gateway router.lan\n", say: []string{"router.lan", "iface up2"}},
		"two gateways of one":  {interfaces: "iface up2 inet dhcp\n multihomed-gateway 198.51.100.1 198.51.100.2\n", say: []string{"198.51.100.2"}},
		"prefix claimed twice": {interfaces: "iface up2 inet dhcp\n multihomed-through 203.0.113.0/24\niface up3 inet dhcp\n multihomed-through 203.0.113.0/24\n", say: []string{"203.0.113.0/24", "up2", "up3"}},
		"default as a prefix":  {toml: "[uplink.up2]\nsource = '::/0'\n", say: []string{"/run/wg-multihome.toml", "up2", `"::/0"`}},
		"group":                {toml: "group = 0\n", say: []string{"group = 0"}},
		"ifquery fails":        {interfaces: "iface up2 inet dhcp\n multihomed-fwmark 0x2005\niface up4\n", say: []string{"/etc/network/interfaces", "ifquery"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Interfaces(pinned)
			l.MustMH("sync")
			l.Interfaces(c.interfaces + other)
			r := l.MH("sync", "--config", l.TOML(c.toml))
			wantCode(t, r, 2)
			for _, part := range c.say {
				wantPart(t, "the message", r.Stderr, part)
			}
			for _, family := range []string{"-4", "-6"} {
				wantPart(t, "what stood", l.Rules(family), "32754: from all fwmark 0x2005 unreachable proto 77")
			}
			wantPart(t, "the valid part", l.Rules("-4"), "32754: from all fwmark 0x1001 unreachable proto 77")
			l.WantSeen(lab.Far4, "", 0x1001, one4)
			if got := l.Ask(lab.Query{Network: "udp", Far: lab.Far4, Mark: mark}); got == one4 {
				t.Errorf("marked packets left by %s", got)
			}
			l.WantSeen(lab.Far4, two4, 0, two4)
			noSpoof(t, l)
		})
	}
}

func TestStateDirectoryFullOrReadOnly(t *testing.T) {
	for name, mount := range map[string]string{
		"full":      "mkdir /run/wg-multihome; mount -t tmpfs -o size=4k none /run/wg-multihome; dd if=/dev/zero of=/run/wg-multihome/x bs=4k count=1 status=none",
		"read-only": "mkdir /run/wg-multihome; mount -t tmpfs -o ro none /run/wg-multihome",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Script(mount)
			l.Script("ip addr add 192.0.2.10/24 dev up1; ip route add default via 192.0.2.1; ip addr add 198.51.100.10/24 dev up2")
			l.Interfaces(pinned)
			// The record cannot be written, but the event still counts.
			r := l.Event("reason=BOUND", "interface=up2", "new_ip_address="+two4, "new_subnet_mask=255.255.255.0", "new_routers=198.51.100.1")
			wantCode(t, r, 1)
			wantPart(t, "the message", r.Stderr, "/run/wg-multihome/")
			l.WantSeen(lab.Far4, "", mark, two4)
			noSpoof(t, l)
		})
	}
}

func TestIfqueryThatHangs(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.MustMH("sync")
	l.Write("/run/ifquery", "#!/bin/sh\nexec sleep 1000\n", os.FileMode(0o755))
	l.Script("mount --bind /run/ifquery $(readlink -f /sbin/ifquery)")
	r := l.MH("sync")
	wantCode(t, r, 2)
	wantPart(t, "the message", r.Stderr, "ifquery")
	wantPart(t, "what stood", l.Rules("-4"), "fwmark 0x2005 lookup 3325256714")
	l.WantSeen(lab.Far4, "", mark, two4)
}

// TestExitStatuses: of several the one that says most wins.
func TestExitStatuses(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	drift := [][]string{{"plan", "--exit-code"}, {"status", "--exit-code"}}
	all := append([][]string{{"sync"}, {"plan"}, {"status"}}, drift...)
	bad := l.TOML("colour = 1\n")
	for _, command := range drift {
		wantCode(t, l.MH(command...), 3)
		wantCode(t, l.MH(append(command, "--config", bad)...), 2)
	}
	l.Script("ip route add default via 192.0.2.1 dev up1 table 77; ip rule add pref 3 lookup 77") // no room
	for _, command := range all {
		wantCode(t, l.MH(command...), 1)
		wantCode(t, l.MH(append(command, "--config", bad)...), 2)
	}
}
