//go:build guest

package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"wg-multihome/test/lab"
)

// machine is a lab for units of the machine's systemd and the machine's own
// files, as the topics have both; only the network is that of the lab's host. No
// other test runs beside it, as others read some of these files, too.
func machine(t *testing.T) *lab.Lab {
	t.Helper()
	l := bareMachine(t)
	l.Static()
	return l
}

// bareMachine is a machine without addresses.
func bareMachine(t *testing.T) *lab.Lab {
	t.Helper()
	onMachine(t)
	l := lab.New(t, binary)
	installedHere(t)
	t.Cleanup(func() { _ = os.RemoveAll("/run/wg-multihome") })
	return l
}

// installedHere has the program where README puts it. It is no link: units have a
// /tmp of their own.
func installedHere(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(binary)
	fatal(t, err)
	_ = os.Remove(installed) // one of the host's: what the machine writes stays in its memory
	machineFile(t, installed, string(text), 0o755)
}

// machineFile writes a file of the machine; what was there is back after the
// test.
func machineFile(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err == nil {
		t.Cleanup(func() { fatal(t, os.WriteFile(path, before, mode)) })
	} else if errors.Is(err, fs.ErrNotExist) {
		t.Cleanup(func() { _ = os.Remove(path) })
	} else {
		t.Fatal(err)
	}
	fatal(t, os.MkdirAll(filepath.Dir(path), 0o755))
	fatal(t, os.WriteFile(path, []byte(text), mode))
}

// unitOnHost has a unit use the network of the lab's host, from the next
// daemon-reload on.
func unitOnHost(t *testing.T, l *lab.Lab, unit, further string) {
	t.Helper()
	machineFile(t, "/run/systemd/system/"+unit+".d/lab.conf", "[Service]\nNetworkNamespacePath="+l.Network()+"\n"+further, 0o644)
}

// machineMH runs the program as a unit does; it must exit with 0.
func machineMH(t *testing.T, l *lab.Lab, args ...string) {
	t.Helper()
	if out, err := l.Outside(append([]string{installed}, args...)...).CombinedOutput(); err != nil {
		t.Errorf("wg-multihome %v: %v\n%s", args, err, out)
	}
}

// TestSystemdWgQuick is what the topic tunnels has, as written, with the unit
// that Debian's wg-quick has and the drop-in that install writes. A reload takes the mark off a device whose file
// has none; the drop-in is what brings it back.
func TestSystemdWgQuick(t *testing.T) {
	const unit, template = "wg-quick@wg0.service", "wg-quick@.service"
	fwMark, hooks := docText(t, "[Interface]"), docText(t, "PostUp = ")
	const dropIn = "/etc/systemd/system/" + template + ".d/50-wg-multihome.conf"
	reload := installedText(t, "/usr/bin/wg-quick", dropIn)
	for _, c := range []struct {
		name, allowed, lines string
		mark                 string // of the device
		reloaded             string // after a reload without the drop-in
		rule                 string // of wg-quick
	}{
		{"full tunnel", "0.0.0.0/0", "[Interface]\n" + hooks, "0xca6c", "off", "not from all fwmark 0xca6c lookup 51820"},
		{"split tunnel", "10.200.0.0/24", fwMark + hooks, "0x2005", "0x2005", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := machine(t)
			machineFile(t, "/etc/network/interfaces", tunnelled, 0o644)
			q := newQuick(t, l, 0, c.allowed)
			machineFile(t, "/etc/wireguard/wg0.conf", fmt.Sprintf("%s\nPrivateKey = %s\nAddress = 10.200.0.1/24\n[Peer]\nPublicKey = %s\nAllowedIPs = %s\nEndpoint = %s:%d\nPersistentKeepalive = 1\n",
				c.lines, q.key, q.peer, q.allowed, lab.Far4, q.port), 0o600)
			unitOnHost(t, l, template, "")
			systemctl(t, "daemon-reload")
			t.Cleanup(func() { _ = exec.Command("systemctl", "stop", unit).Run() })
			check := func(when string) {
				t.Helper()
				wantEqual(t, "mark after "+when, q.mark(), c.mark)
				machineMH(t, l, "status", "--exit-code") // no drift
				q.from(t, two4)
				wantPart(t, "rules after "+when, l.Rules("-4"), c.rule)
			}
			systemctl(t, "start", unit)
			check("start")
			systemctl(t, "reload", unit)
			wantEqual(t, "mark after a reload without the drop-in", q.mark(), c.reloaded)
			if c.reloaded != c.mark {
				machineFile(t, dropIn, reload, 0o644)
				systemctl(t, "daemon-reload")
				systemctl(t, "restart", unit)
				check("restart")
				systemctl(t, "reload", unit)
				check("reload")
			}
			systemctl(t, "stop", unit)
			machineMH(t, l, "status", "--exit-code")
			for _, family := range []string{"-4", "-6"} {
				rules := l.Rules(family)
				wantNone(t, "rules after stop", rules, "not from all")
				wantNone(t, "rules after stop", rules, "0xca6c")
				wantPart(t, "rules after stop", rules, "32754: from all fwmark 0x2005 unreachable proto 77")
			}
			l.WantSeen(lab.Far4, "", mark, two4)
			noSpoof(t, l)
		})
	}
}

// TestSystemdStaleTimer is the timer of the topic tunnels, as written. A peer that never had a
// handshake is stale.
func TestSystemdStaleTimer(t *testing.T) {
	const service, timer = "wg-multihome-stale.service", "wg-multihome-stale.timer"
	l := machine(t)
	machineFile(t, "/etc/network/interfaces", tunnelled, 0o644)
	l.Script(fmt.Sprintf("ip link add wg0 type wireguard; wg set wg0 peer %s endpoint %s:9 persistent-keepalive 25 allowed-ips 10.200.0.2/32; ip link set wg0 up", newKey(t).PublicKey(), lab.Far4))
	machineMH(t, l, "sync")
	unitOnHost(t, l, service, "")
	t.Cleanup(func() {
		_ = exec.Command("systemctl", "stop", timer).Run()
		for _, file := range []string{service, timer, "timers.target.wants/" + timer} {
			_ = os.Remove("/etc/systemd/system/" + file)
		}
	})
	if out, err := exec.Command("sh", "-euc", docText(t, "cat >/etc/systemd/system/wg-multihome-stale.service")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	timers, err := exec.Command("systemctl", "list-timers", "--no-pager", timer).CombinedOutput()
	fatal(t, err)
	wantPart(t, "timers", string(timers), service)
	systemctl(t, "start", service)
	journal, err := exec.Command("journalctl", "--no-pager", "-u", service).CombinedOutput()
	fatal(t, err)
	wantPart(t, "journal", string(journal), "= wg wg0 fwmark 0x2005")
}
