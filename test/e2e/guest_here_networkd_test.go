//go:build guest

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// given are the addresses that the ISPs' DHCP servers give.
var given = []string{"192.0.2.40", "198.51.100.40"}

// served has both ISPs serve DHCP; options are those of up2's.
func served(t *testing.T, l *lab.Lab, options ...string) (stop func()) {
	t.Helper()
	l.ISP2.IP("addr add 198.51.100.2/24 dev home") // another router
	l.Serve(l.ISP1, given[0], given[0], "--dhcp-option=3,192.0.2.1")
	return l.Serve(l.ISP2, given[1], given[1], append([]string{"--dhcp-option=3,198.51.100.1"}, options...)...)
}

// deletions hears how long our guards are away each time that others delete one, until
// it is asked. Those of both families look the same.
func deletions(t *testing.T, l *lab.Lab) (stop func() []time.Duration) {
	t.Helper()
	file := t.TempDir() + "/rules"
	ends := l.Start(nil, "sh", "-c", "exec ip -o -ts monitor rule >"+file)
	// It hears a rule of the test's own once it listens.
	lab.Until(t, "ip monitor listens", func() bool {
		l.Script("ip rule add priority 1 to 192.0.2.254 lookup main; ip rule delete priority 1")
		text, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(text), "192.0.2.254")
	})
	return func() []time.Duration {
		t.Helper()
		ends()
		text, err := os.ReadFile(file)
		fatal(t, err)
		var away []time.Duration
		var gone []time.Time
		for _, line := range strings.Split(string(text), "\n") {
			stamp, rule, _ := strings.Cut(strings.TrimPrefix(line, "["), "] ")
			if !strings.Contains(rule, "fwmark 0x2005 unreachable") {
				continue
			}
			at, err := time.Parse("2006-01-02T15:04:05.000000", stamp)
			fatal(t, err)
			switch {
			case strings.HasPrefix(rule, "Deleted"):
				gone = append(gone, at)
			case len(gone) > 0:
				away, gone = append(away, at.Sub(gone[0])), gone[1:]
			}
		}
		if len(gone) > 0 {
			t.Errorf("%d guards are not back", len(gone))
		}
		slices.Sort(away)
		return away
	}
}

// networkdHere has networkd manage both uplinks, from now on.
func networkdHere(t *testing.T) {
	t.Helper()
	for i := range given {
		machineFile(t, fmt.Sprintf("/etc/systemd/network/10-up%d.network", i+1), fmt.Sprintf(
			"[Match]\nName=up%d\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n[DHCPv4]\nRouteMetric=%d\nClientIdentifier=mac\n", i+1, i+1), 0o644)
	}
}

func startedNetworkd(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			links, _ := exec.Command("networkctl", "--no-pager").CombinedOutput()
			journal, _ := exec.Command("journalctl", "--no-pager", "-n", "80", "-u", "systemd-networkd.service", "-u", "wg-multihome-watch.service").CombinedOutput()
			t.Logf("%s%s", links, journal)
		}
	})
	settled(t, "systemd-networkd.socket", "systemd-networkd.service")
	systemctl(t, "start", "dbus.service")
	systemctl(t, "start", "systemd-networkd.service")
}

// hasLeases waits until both uplinks have their leased addresses and defaults. Where the
// machine is so slow that the kernel does not answer networkd within its 25 s, it
// begins with the link once more.
func hasLeases(t *testing.T, l *lab.Lab) {
	t.Helper()
	has := func() bool {
		routes := l.Run("ip", "-4", "route", "show", "default")
		return strings.Contains(routes, "dev up1") && strings.Contains(routes, "dev up2")
	}
	for end := time.Now().Add(3 * lab.Patience); !has() && time.Now().Before(end); {
		_ = exec.Command("networkctl", "status", "up2").Run() // which takes its time
	}
	lab.Until(t, "both uplinks have leases", has)
}

// again restarts networkd, and has it configure both uplinks anew.
func again(t *testing.T, l *lab.Lab) {
	t.Helper()
	systemctl(t, "restart", "systemd-networkd.service")
	hasLeases(t, l)
	for _, uplink := range []string{"up1", "up2"} {
		lab.Until(t, "networkd configures "+uplink, func() bool { return exec.Command("networkctl", "reconfigure", uplink).Run() == nil })
		lab.Until(t, uplink+" is configured", func() bool {
			out, _ := exec.Command("networkctl", "--no-pager", "--no-legend", "list", uplink).Output()
			return strings.Contains(string(out), " configured")
		})
		hasLeases(t, l)
	}
}

// TestSystemdNetworkdManagesUplinks restarts networkd and has it configure uplinks
// anew. Without the drop-in that install writes it deletes our guards; the second lock
// holds what is on its way, and watch puts them back. With it, once networkd was
// started anew as install says, it deletes none, ever.
func TestSystemdNetworkdManagesUplinks(t *testing.T) {
	const file = "/etc/systemd/networkd.conf.d/50-wg-multihome.conf"
	l := here(t)
	served(t, l)
	networkdHere(t)
	machineFile(t, "/etc/wg-multihome.toml", pinnedHere, 0o644)
	said := hereMH(t, l, "install").Stdout
	wantPart(t, "install", said, "+ "+file+" (systemd-networkd: /etc/systemd/network/10-up1.network is there)")
	fatal(t, os.Remove(file))
	startedNetworkd(t)
	hasLeases(t, l)
	settles(t, l)
	l.WantSeen(lab.Far4, "", mark, given[1])
	sent(t, l.ISP1)
	stream := l.Stream(lab.Sender{To: lab.Far4, Mark: mark})
	deleted := deletions(t, l)
	again(t, l)
	settles(t, l)
	without := deleted()
	if len(without) == 0 {
		t.Error("without the drop-in networkd deleted no guard: nothing is tested")
	}
	if codes := found(t, l); codes["WGM001"] != "error" {
		t.Errorf("doctor, without the drop-in: %v", codes)
	}
	mended := hereMH(t, l, "install")
	wantPart(t, "install", mended.Stdout, "+ "+file)
	wantPart(t, "install", mended.Stderr, "systemctl restart systemd-networkd")
	systemctl(t, "restart", "systemd-networkd.service")
	hasLeases(t, l)
	settles(t, l)
	deleted = deletions(t, l)
	again(t, l)
	if n := len(deleted()); n != 0 {
		t.Errorf("with the drop-in networkd deleted %d guards", n)
	}
	if codes := found(t, l); codes["WGM001"] != "" {
		t.Errorf("doctor, with the drop-in: %v", codes)
	}
	settles(t, l)
	l.Send(lab.Sender{To: lab.Far4, Mark: mark}, 100)
	left := stream()
	if n := sent(t, l.ISP1); n != 0 {
		t.Errorf("%d marked packets left by the other uplink", n)
	}
	if n := len(without); n > 0 {
		t.Logf("networkd deleted %d guards without the drop-in, which were back after %s (median) and %s (at most); %d marked packets were sent meanwhile", n, without[n/2], without[n-1], left)
	}
	l.WantSeen(lab.Far4, "", mark, given[1])
	noDrift(t, l)
}

// TestSystemdNetworkManager has NetworkManager follow leases with the dispatcher's
// script and the watch that install brings: another router, another address, reapply,
// down and up. Debian 12's tells its dispatcher of the first lease alone.
func TestSystemdNetworkManager(t *testing.T) {
	l := here(t)
	stop := served(t, l, "--dhcp-option=58,15", "--dhcp-option=59,25") // renews after 15 s, rebinds after 25 s
	machineFile(t, "/etc/NetworkManager/conf.d/lab.conf", "[main]\ndns=none\nno-auto-default=*\n[device-lab]\nmatch-device=interface-name:up*\nmanaged=1\n", 0o644)
	for i := range given {
		machineFile(t, fmt.Sprintf("/etc/NetworkManager/system-connections/up%d.nmconnection", i+1), fmt.Sprintf(
			"[connection]\nid=up%d\ntype=ethernet\ninterface-name=up%[1]d\n[ipv4]\nmethod=auto\nroute-metric=%[1]d\n[ipv6]\nmethod=disabled\n", i+1), 0o600)
	}
	machineFile(t, "/etc/wg-multihome.toml", pinnedHere, 0o644)
	hereMH(t, l, "install")
	version, err := exec.Command("NetworkManager", "--version").Output()
	fatal(t, err)
	t.Logf("NetworkManager %s", version)
	settled(t, "NetworkManager.service")
	systemctl(t, "start", "dbus.service")
	systemctl(t, "start", "NetworkManager.service")
	sent(t, l.ISP1)
	stream := l.Stream(lab.Sender{To: lab.Far4, Mark: mark})
	follows := func(what, router string) {
		t.Helper()
		lab.Until(t, "main after "+what, lab.Contains(func() string { return l.Run("ip", "-4", "route", "show", "default") }, "via "+router+" dev up2"))
		lab.Until(t, "the mark's table after "+what, func() bool {
			return strings.Contains(l.Try(nil, "ip", "route", "get", lab.Far4, "mark", "0x2005").Stdout, "via "+router+" dev up2")
		})
	}
	follows("the first lease", "198.51.100.1")
	l.WantSeen(lab.Far4, "", mark, given[1])
	stop()
	stop = l.Serve(l.ISP2, given[1], given[1], "--dhcp-option=3,198.51.100.2", "--dhcp-option=58,15", "--dhcp-option=59,25")
	follows("a renewal with another router", "198.51.100.2")
	nmcli := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("nmcli", args...).CombinedOutput(); err != nil {
			t.Fatalf("nmcli %v: %v\n%s", args, err, out)
		}
	}
	before := l.Rules("-4")
	nmcli("device", "reapply", "up2")
	follows("reapply", "198.51.100.2")
	wantEqual(t, "rules after reapply", l.Rules("-4"), before)
	nmcli("connection", "down", "up2")
	l.WantRefused(lab.Far4, "", mark)
	stop()
	l.Serve(l.ISP2, "198.51.100.77", "198.51.100.77", "--dhcp-option=3,198.51.100.1")
	nmcli("connection", "up", "up2")
	lab.Until(t, "the mark's table after another address", func() bool {
		return strings.Contains(l.Try(nil, "ip", "route", "get", lab.Far4, "mark", "0x2005").Stdout, "via 198.51.100.1 dev up2")
	})
	l.WantSeen(lab.Far4, "", mark, "198.51.100.77")
	stream()
	if n := sent(t, l.ISP1); n != 0 {
		t.Errorf("%d marked packets left by the other uplink", n)
	}
	settles(t, l)
	managerIsFound(t, l, string(version))
}

// managerIsFound has doctor find what NetworkManager does not tell, and what dhclient
// would do under it, and neither where all is well.
func managerIsFound(t *testing.T, l *lab.Lab, version string) {
	t.Helper()
	want := func(when, silent, dhclient string) {
		t.Helper()
		if codes := found(t, l); codes["WGM002"] != silent || codes["WGM009"] != dhclient {
			t.Errorf("doctor, %s: %v", when, codes)
		}
	}
	want("with watch", "", "")
	systemctl(t, "stop", "wg-multihome-watch.service")
	want("without watch", map[bool]string{true: "error"}[strings.HasPrefix(version, "1.42.4")], "")
	systemctl(t, "start", "wg-multihome-watch.service")
	machineFile(t, "/etc/NetworkManager/conf.d/client.conf", "[main]\ndhcp=dhclient\n", 0o644)
	want("with dhclient", "", "warning")
}
