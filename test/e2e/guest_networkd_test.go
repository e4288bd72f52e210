//go:build guest

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// networkdOnHost has systemd-networkd work on the lab's host, as the
// `install` configures it: it would take a network of the machine's from its socket unit,
// and would wait for udev, which sees no other network, unless /sys is read-only.
func networkdOnHost(t *testing.T, l *lab.Lab) {
	t.Helper()
	networkdSettings(t)
	startNetworkd(t, l)
}

// startNetworkd does so with whatever settings there are.
func startNetworkd(t *testing.T, l *lab.Lab) {
	t.Helper()
	const service, socket = "systemd-networkd.service", "systemd-networkd.socket"
	link := "/run/systemd/system/" + socket
	fatal(t, os.Symlink("/dev/null", link))
	unitOnHost(t, l, service, "ReadOnlyPaths=/sys\n")
	systemctl(t, "daemon-reload")
	t.Cleanup(func() {
		_ = exec.Command("systemctl", "stop", service).Run()
		_ = os.Remove(link)
	})
	systemctl(t, "start", "dbus.service")
	systemctl(t, "start", service)
}

// configured returns how often networkd has said that it configures wg0. Debian
// 12's says "Configuring with", Debian 13's "Reconfiguring with".
func configured(t *testing.T) int {
	t.Helper()
	journal, err := exec.Command("journalctl", "--no-pager", "-u", "systemd-networkd.service").Output()
	fatal(t, err)
	return strings.Count(string(journal), "onfiguring with /run/systemd/network/wg0.network")
}

// TestSystemdNetworkd has networkd make a full tunnel as the topic tunnels says
// it: it leaves by its uplink from its first packet on, and our rules stay where they
// are, also when networkd goes over its own.
func TestSystemdNetworkd(t *testing.T) {
	l := machine(t)
	machineFile(t, "/etc/network/interfaces", tunnelled, 0o644)
	machineMH(t, l, "sync")
	before := l.Rules("-4")
	wrong := counting(t, l.ISP1, "prerouting priority -300", "iifname home udp dport 51820")
	q := newQuick(t, l, 0, "0.0.0.0/0")
	machineFile(t, "/run/systemd/network/wg0.netdev", fmt.Sprintf("[NetDev]\nName=wg0\nKind=wireguard\n%sRouteTable=1000\nPrivateKey=%s\n[WireGuardPeer]\nPublicKey=%s\nAllowedIPs=%s\nEndpoint=%s:%d\nPersistentKeepalive=1\n",
		docText(t, "[WireGuard]"), q.key, q.peer, q.allowed, lab.Far4, q.port), 0o644) // its user reads it
	rule := docText(t, "[RoutingPolicyRule]")
	machineFile(t, "/run/systemd/network/wg0.network", "[Match]\nName=wg0\n[Network]\nAddress=10.200.0.1/24\n"+rule, 0o644)
	networkdOnHost(t, l)
	lab.Until(t, "the tunnel's rule", lab.Contains(func() string { return l.Rules("-4") }, "not from all"))
	check := func(when string) {
		t.Helper()
		q.from(t, two4)
		wantEqual(t, "mark "+when, q.mark(), "0x2005")
		wantPart(t, "what goes by default "+when, l.Run("ip", "route", "get", lab.Far4), "dev wg0")
		wantPart(t, "what goes to a LAN "+when, l.Run("ip", "route", "get", "192.0.2.77"), "dev up1")
		var ours []string
		for _, line := range strings.SplitAfter(l.Rules("-4"), "\n") {
			if !strings.Contains(line, "proto static") {
				ours = append(ours, line)
			}
		}
		wantEqual(t, "rules but for networkd's "+when, strings.Join(ours, ""), before)
		l.WantSeen(lab.Far4, "", mark, two4)
	}
	check("at first")
	machineMH(t, l, "sync") // the second lock learns the tunnel's routes
	times := configured(t)
	if out, err := l.Outside("networkctl", "reconfigure", "wg0").CombinedOutput(); err != nil {
		t.Fatalf("networkctl: %v\n%s", err, out)
	}
	lab.Until(t, "networkd configures the link again", func() bool {
		out, _ := l.Outside("networkctl", "--no-pager", "--no-legend", "list", "wg0").Output()
		return configured(t) > times && strings.Contains(string(out), " configured")
	})
	check("after networkctl reconfigure")
	// Debian 12's networkd takes the address away and gives it back, so that copies
	// of its route have gone.
	machineMH(t, l, "sync")
	machineMH(t, l, "status", "--exit-code") // no drift
	if n := wrong(); n != 0 {
		t.Errorf("%d packets of the tunnel left by the other uplink", n)
	}
}

// TestSystemdNetworkdAtBoot has networkd start with its defaults before any uplink
// is known to us: it deletes all rules (Debian 12's only when it is to go over a
// link again), and then has main lead by up1. Marked
// datagrams are on their way all the time, and the second lock alone holds them.
// The same without it shows that the test sees what leaves.
func TestSystemdNetworkdAtBoot(t *testing.T) {
	for _, locked := range []bool{true, false} {
		t.Run(fmt.Sprintf("locked %t", locked), func(t *testing.T) {
			l := bareMachine(t)
			machineFile(t, "/etc/network/interfaces", pinned, 0o644)
			machineMH(t, l, "sync")
			before := l.Rules("-4")
			wantPart(t, "rules", before, "fwmark 0x2005 unreachable")
			if !locked {
				l.Script(lockGone)
			}
			for i, net := range []string{"192.0.2", "198.51.100"} {
				machineFile(t, fmt.Sprintf("/run/systemd/network/10-up%d.network", i+1), fmt.Sprintf(
					"[Match]\nName=up%d\n[Network]\nAddress=%s.10/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n[Route]\nGateway=%s.1\nMetric=%d\n", i+1, net, net, i+1), 0o644)
			}
			l.Script("ip link set up1 up; ip link set up2 up")
			sent(t, l.ISP1)
			stop := l.Stream(lab.Sender{To: lab.Far4, Mark: mark})
			startNetworkd(t, l)
			lab.Until(t, "networkd brings the uplinks up", func() bool {
				routes := l.Run("ip", "route", "show", "default")
				return strings.Contains(routes, "dev up1") && strings.Contains(routes, "dev up2")
			})
			lab.Until(t, "networkd deletes our rules", func() bool {
				gone := !strings.Contains(l.Rules("-4"), "fwmark")
				if !gone {
					_ = l.Outside("networkctl", "reconfigure", "up2").Run() // it may not be ready as yet
				}
				return gone
			})
			l.Send(lab.Sender{To: lab.Far4, Mark: mark}, 300)
			stop()
			n := sent(t, l.ISP1)
			t.Logf("%d marked packets left by the other uplink", n)
			if (n > 0) == locked {
				t.Errorf("%d marked packets left by the other uplink", n)
			}
			machineMH(t, l, "sync")
			l.WantSeen(lab.Far4, "", mark, two4)
		})
	}
}
