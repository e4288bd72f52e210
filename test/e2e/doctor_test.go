package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// found returns the codes that doctor finds, each with how bad it is.
func found(t *testing.T, l *lab.Lab) map[string]string {
	t.Helper()
	r := l.MH("doctor", "--json")
	var said struct {
		Version  int
		Findings []struct{ Code, Severity, What, Evidence, Mend string }
	}
	if err := json.Unmarshal([]byte(wantValid(t, "doctor", r.Stdout)), &said); err != nil || said.Version != 1 {
		t.Fatalf("doctor: exit status %d, %v\n%s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	codes := map[string]string{}
	for _, f := range said.Findings {
		codes[f.Code] = f.Severity
		if f.What == "" || f.Evidence == "" || f.Mend == "" {
			t.Errorf("%s says too little: %+v", f.Code, f)
		}
	}
	return codes
}

// healthy is a host that doctor finds nothing on: with a mark, a tunnel that has it in
// its file, a service whose packets are marked, and two devices that are not pinned.
func healthy(t *testing.T) *lab.Lab {
	t.Helper()
	l := newLab(t)
	l.Static()
	config, _ := peers(t)
	l.Tunnel(l.Namespace, "wg0", config)
	l.Script("ip link set wg0 mtu 1420 up")
	l.Write("/etc/wireguard/wg0.conf", "[Interface]\nFwMark = 0x2005\n[Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\n", 0o600)
	l.Interfaces(pinned + "\tmultihomed-wireguard wg0\n\tmultihomed-marking packet\n\tmultihomed-cgroup " + l.MakeCgroup("a.service") + "\n")
	for _, d := range devices(t, l, 1, "wg8", "wg9") {
		d.mark.Store("0")
	}
	l.Script("ip link set wg8 up; ip link set wg9 up")
	l.MustMH("sync")
	return l
}

// TestDoctorFindsNothing on a healthy host, and says by how many checks.
func TestDoctorFindsNothing(t *testing.T) {
	l := healthy(t)
	r := l.MustMH("doctor", "--exit-code")
	if !strings.HasPrefix(r.Stdout, "nothing found by ") {
		t.Error(r.Stdout)
	}
	wantPart(t, "--why", l.MustMH("doctor", "--why", "wgm016").Stdout, "WGM016: two uplinks in one subnet\n\nLinux answers ARP")
	wantCode(t, l.MH("doctor", "--why", "WGM999"), 2)
	const drifts = "besides, there is drift"
	wantNone(t, "doctor", r.Stdout, drifts)
	l.Script("ip rule del fwmark 0x2005 unreachable")
	wantPart(t, "doctor where a guard is missing", l.MustMH("doctor", "--exit-code").Stdout, drifts)
}

// TestDoctorFinds what others do to a healthy host, for real: each check finds its
// own, and no other one.
func TestDoctorFinds(t *testing.T) {
	for name, c := range map[string]struct {
		script   string
		severity string
		beside   []string // what comes along
	}{
		"WGM001": {`mkdir -p /run/systemd/netif/links; printf 'ADMIN_STATE=configured\nOPER_STATE=routable\n' >/run/systemd/netif/links/$UP2`, "error", nil},
		"WGM002": {managedUp2 + `; printf 'Package: network-manager\nStatus: install ok installed\nVersion: 1.42.4-1+deb12u1\n' >/var/lib/dpkg/status`, "error", nil},
		"WGM003": {`printf '#!/bin/sh\nrun-parts /etc/dhcp/multihomed.d\n' >/etc/dhcp/dhclient-exit-hooks.d/multihome`, "error", nil},
		"WGM004": {"sysctl -qw net.ipv4.conf.up2.rp_filter=1 net.ipv4.conf.all.rp_filter=0; $MH sync; sysctl -qw net.ipv4.conf.up2.src_valid_mark=0", "error", nil},
		"WGM005": {"printf '\\tmultihomed-gateway 198.51.100.1\\n' >>/etc/network/interfaces; ip route del default; ip route del default", "warning", nil},
		"WGM006": {"sysctl -qw net.ipv6.conf.up2.forwarding=1 net.ipv6.conf.up2.accept_ra=1", "warning", nil},
		"WGM009": {managedUp2 + `; mkdir -p /etc/NetworkManager/conf.d; printf '[main]\ndhcp=dhclient\n' >/etc/NetworkManager/conf.d/a.conf; : >/var/lib/dpkg/status`, "warning", []string{"WGM002"}}, // of no known version
		"WGM010": {"ip rule add fwmark 0x2000/0xff00 lookup 99", "warning", nil},
		"WGM011": {"sysctl -qw net.ipv4.conf.all.src_valid_mark=1", "note", nil},
		"WGM012": {"ip rule add not fwmark 3325 lookup 3325; ip route add default dev wg9 table 3325", "error", nil},
		"WGM013": {"sed -i '/FwMark/aSaveConfig = true' /etc/wireguard/wg0.conf", "warning", nil},
		"WGM014": {"ip rule add not fwmark 51820 lookup 51820; ip -6 rule add not fwmark 51820 lookup 51820; ip route add default dev wg8 table 51820; ip -6 route add default dev wg9 table 51820", "error", nil},
		"WGM015": {"ip rule add pref 32765 lookup local; ip rule del pref 0", "note", nil},
		"WGM016": {"ip addr add 192.0.2.77/24 dev up2", "warning", nil},
		"WGM017": {"mkdir -p /run/systemd/system /etc/systemd/system/sysinit.target.wants; ln -s /usr/lib/systemd/system/nftables.service /etc/systemd/system/sysinit.target.wants/; nft add element inet wg_multihome mark_0x2005 { $CGROUP }", "warning", nil},
		"WGM018": {"cp /bin/sleep /run/firewalld; setsid /run/firewalld 60 >/dev/null 2>&1 </dev/null & until grep -q firewalld /proc/$!/comm; do :; done", "warning", nil},
		"WGM019": {"ip tuntap add tun7 mode tun; ip link set tun7 up; ip -6 route add fc00::/7 dev tun7", "note", nil},
		"WGM020": {`mkdir -p /run/systemd/system /etc/systemd/system/a.service.d; printf '[Service]\nBindNetworkInterface=up1\n' >/etc/systemd/system/a.service.d/net.conf`, "error", nil},
		"WGM021": {"sed -i /FwMark/d /etc/wireguard/wg0.conf", "warning", nil},
		"WGM022": {"ip link set wg0 mtu 1500", "warning", nil},
		"WGM026": {"for i in 1 2; do ip -6 route append default via 2001:db8:$i::1 dev up$i proto ra metric 1024; done", "note", nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := healthy(t)
			index, _, _ := strings.Cut(l.Run("ip", "-o", "link", "show", "up2"), ":")
			l.Script("set +e; " + strings.NewReplacer("$MH", l.Binary, "$UP2", index, "$CGROUP", nftPath(t, l, l.MakeCgroup("b.service"))).Replace(c.script))
			codes := found(t, l)
			if codes[name] != c.severity {
				t.Errorf("found %v, want %s: %s", codes, name, c.severity)
			}
			for code := range codes {
				if code != name && !slices.Contains(c.beside, code) {
					t.Errorf("%s, too: %v", code, codes)
				}
			}
			bad := c.severity != "note"
			if r := l.MH("doctor", "--exit-code"); r.Code != map[bool]int{true: 3, false: 0}[bad] {
				t.Errorf("exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
			}
		})
	}
}

// managedUp2 is what NetworkManager writes where it manages up2.
const managedUp2 = `mkdir -p /run/NetworkManager/devices; printf '[device]\nmanaged=true\n' >/run/NetworkManager/devices/$UP2`

// TestDoctorFindsHooks that were taken away, changed, or made something that nobody
// runs, and units that nobody starts; and nothing once they are as install has them.
func TestDoctorFindsHooks(t *testing.T) {
	d := docHost(t)
	d.install(t)
	hasNone := func(when string) {
		t.Helper()
		if codes := found(t, d.Lab); codes["WGM023"]+codes["WGM024"] != "" {
			t.Errorf("%s: %v", when, codes)
		}
	}
	const hook = "/etc/network/if-up.d/zz-wg-multihome"
	hasNone("installed")
	for _, change := range []string{"rm " + hook, "echo '# mine' >>" + hook, "chmod -x " + hook} {
		d.Script(change)
		if codes := found(t, d.Lab); codes["WGM023"] != "warning" {
			t.Errorf("%s: %v", change, codes)
		}
		d.mh(t, 0, "install --force")
		hasNone(change + ", and install")
	}
	d.Script("mkdir -p /run/systemd/system") // from now on systemd seems to run
	hasNone("with systemd")
	d.sh("systemctl disable wg-multihome.service")
	if codes := found(t, d.Lab); codes["WGM024"] != "error" {
		t.Errorf("a disabled unit: %v", codes)
	}
}

// wantClientFound has doctor find what a client that serves both uplinks does to main.
func wantClientFound(t *testing.T, l *lab.Lab, client string) {
	t.Helper()
	codes := found(t, l)
	for code, severity := range map[string]string{
		"WGM007": map[string]string{"dhcpcd": "warning"}[client],
		"WGM008": map[string]string{"udhcpc": "note"}[client],
	} {
		if codes[code] != severity {
			t.Errorf("doctor, with %s on both uplinks: %v", client, codes)
		}
	}
}

// TestDoctorFindsAnOldWatch: a `watch` whose program was replaced.
func TestDoctorFindsAnOldWatch(t *testing.T) {
	l := healthy(t)
	const copied = "/run/wg-multihome-old"
	l.Run("cp", l.Binary, copied)
	l.Start(nil, copied, "watch")
	lab.Until(t, "it watches", func() bool { return l.Try(nil, "test", "-e", "/run/wg-multihome/watch.lock").Code == 0 })
	if codes := found(t, l); codes["WGM025"] != "" {
		t.Errorf("%v", codes)
	}
	l.Run("rm", copied)
	if codes := found(t, l); codes["WGM025"] != "warning" {
		t.Errorf("%v", codes)
	}
}
