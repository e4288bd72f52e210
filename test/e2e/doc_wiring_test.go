package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// TestPaperDhclient has a real dhclient's lease followed, by the hook file that
// `install` writes.
func TestPaperDhclient(t *testing.T) {
	d := docHost(t)
	d.sh("ip addr flush dev wan2")
	d.install(t)
	d.Serve(d.ISP2, "198.51.100.40", "198.51.100.40", "--dhcp-option=3,198.51.100.1")
	d.Dhclient("wan2")
	wantPart(t, "status", squeeze(d.MustMH("status").Stdout), "wan2 up 4 198.51.100.40 (lease) 198.51.100.1 ")
	d.WantSeen(lab.Far4, "198.51.100.40", 0, "198.51.100.40")
	noDrift(t, d.Lab)
}

// squeeze makes blanks single.
func squeeze(text string) string { return strings.Join(strings.Fields(text), " ") }

// TestPaperDhcpcd sources the hook file that `install` writes, as
// dhcpcd-run-hooks does, with what dhcpcd says.
func TestPaperDhcpcd(t *testing.T) {
	d := docHost(t)
	d.Write("/run/90-wg-multihome", installedText(t, "/usr/sbin/dhcpcd", "/usr/lib/dhcpcd/dhcpcd-hooks/90-wg-multihome"), 0o644)
	d.sh("ip addr flush dev wan2; ip addr add 198.51.100.40/24 dev wan2 noprefixroute; ip route add 198.51.100.0/24 dev wan2 src 198.51.100.40")
	d.MustMH("sync")
	event := func(reason string, more ...string) {
		t.Helper()
		env := append([]string{"reason=" + reason, "interface=wan2", "protocol=dhcp", "if_configured=true", fmt.Sprintf("if_up=%v", len(more) > 1), fmt.Sprintf("if_down=%v", len(more) == 1)}, more...)
		// A hook that ends the shell would keep later ones from being run.
		r := d.Try(env, "sh", "-c", ". /run/90-wg-multihome; echo goes on")
		wantCode(t, r, 0)
		wantEqual(t, reason, r.Stdout, "goes on\n")
	}
	lease := []string{"new_ip_address=198.51.100.40", "new_subnet_mask=255.255.255.0", "new_subnet_cidr=24"}
	for _, c := range []struct {
		reason  string
		more    []string
		gateway string
	}{
		{"PREINIT", nil, "- -"},
		{"BOUND", append(lease, "new_routers=198.51.100.1 198.51.100.2"), "198.51.100.1 "},
		{"RENEW", append(lease, "new_routers=198.51.100.9"), "198.51.100.9 "},
		{"REBIND", append(lease, "new_routers=198.51.100.9", "new_classless_static_routes=10.50.0.0/16 198.51.100.7 0.0.0.0/0 198.51.100.1"), "198.51.100.1 "},
		{"RENEW", append(lease, "new_routers=198.51.100.9", "new_classless_static_routes=10.50.0.0/16 198.51.100.7"), "- -"},
		{"RENEW", append(lease, "new_routers=198.51.100.1"), "198.51.100.1 "},
		{"EXPIRE", []string{"old_ip_address=198.51.100.40"}, "- -"},
	} {
		event(c.reason, c.more...)
		wantPart(t, "status after "+c.reason, squeeze(d.MustMH("status").Stdout)+" ", "wan2 up 4 198.51.100.40 "+map[bool]string{true: "(lease) "}[len(c.more) > 1]+c.gateway)
		noDrift(t, d.Lab)
	}
}

// install installs it, as README has it.
func (d docLab) install(t *testing.T) {
	t.Helper()
	if r := d.sh("wg-multihome install"); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
}

// installedText is the file that install writes at a path where a client is there, as
// the probe shows.
func installedText(t *testing.T, probe, path string) string {
	t.Helper()
	root := t.TempDir()
	fatal(t, os.MkdirAll(filepath.Dir(root+probe), 0o755))
	fatal(t, os.WriteFile(root+probe, nil, 0o755))
	if out, err := exec.Command(binary, "install", "--root", root).CombinedOutput(); err != nil {
		t.Fatalf("install --root: %v\n%s", err, out)
	}
	text, err := os.ReadFile(root + path)
	fatal(t, err)
	return string(text)
}

// TestPaperIfUp: what a link that went down has lost is back with it.
func TestPaperIfUp(t *testing.T) {
	d := docHost(t)
	d.install(t)
	d.Interfaces("iface wan2 inet static\n\taddress 198.51.100.10/24\n\tgateway 198.51.100.1\n\tmultihomed-fwmark 0x2005\n")
	d.MustMH("sync")
	d.Script("ip link set wan2 down; ip link set wan2 up")
	d.WantRefused(lab.Far4, "", mark)
	d.Run("/etc/network/if-up.d/zz-wg-multihome")
	d.WantSeen(lab.Far4, "", mark, two4)
	d.WantSeen(lab.Far4, two4, 0, two4)
	noDrift(t, d.Lab)
}

// TestPaperUnitAtBoot runs what the unit that `install` writes runs, as PID 1 does
// before any uplink is there: marks are refused from then on.
func TestPaperUnitAtBoot(t *testing.T) {
	d := docHost(t)
	d.Script("ip addr flush dev wan2; ip -6 addr flush dev wan2 scope global")
	d.Interfaces("iface wan2 inet dhcp\n\tmultihomed-fwmark 0x2005\n")
	d.WantSeen(lab.Far4, "", mark, one4)
	d.install(t)
	_, command, ok := strings.Cut(d.Read("/etc/systemd/system/wg-multihome.service"), "\nExecStart=")
	if !ok {
		t.Fatal("the unit runs nothing")
	}
	command, _, _ = strings.Cut(command, "\n")
	d.Run(strings.Fields(command)...)
	d.WantRefused(lab.Far4, "", mark)
	d.WantRefused(lab.Far6, "", mark)
	d.WantSeen(lab.Far4, "", 0, one4)
}

// TestPaperHook runs the hook of the topic hooks with what a run of ours tells
// it.
func TestPaperHook(t *testing.T) {
	d := docHost(t)
	if r := d.sh(docText(t, "mkdir -p /etc/dhcp/multihomed.d")); r.Code != 0 {
		t.Fatal(r.Stderr)
	}
	d.Write("/usr/local/sbin/logger", "#!/bin/sh\necho \"$1\" >>/run/logged\n", 0o755)
	d.MustMH("sync")
	wantPart(t, "what was logged", d.Read("/run/logged"), "up: wan2 has 198.51.100.10 now, it had none\n")
}
