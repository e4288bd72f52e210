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

// install gives the host ifupdown2 or ifupdown-ng in the place of ifupdown, as
// Debian's package has it.
func install(t *testing.T, l *lab.Lab, name string) {
	t.Helper()
	cmd := exec.Command("../ifqueries")
	cmd.Stderr = os.Stderr
	folder, err := cmd.Output()
	fatal(t, err)
	root := filepath.Join(strings.TrimSpace(string(folder)), name)
	l.Script(fmt.Sprintf(`mount -t overlay overlay -o lowerdir=%[1]s/sbin:/usr/sbin /usr/sbin
mount -t overlay overlay -o lowerdir=%[1]s/usr/share:/usr/share /usr/share
mount -t tmpfs none /var/tmp
cp -r %[1]s/etc/network/. /etc/network/`, root))
}

// TestOtherIfupdowns are hosts with ifupdown2 (Proxmox, Cumulus) and ifupdown-ng
// (Alpine): options, gateways and devices are read, nothing is an error, and a bad
// line takes no guards away.
func TestOtherIfupdowns(t *testing.T) {
	for _, name := range []string{"ifupdown2", "ifupdown-ng"} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			install(t, l, name)
			host := `auto lo
iface lo inet loopback
auto up1
iface up1 inet static
    address 192.0.2.10/24
    gateway 192.0.2.1
`
			l.Interfaces(host)
			l.MustMH("sync") // exit status 0: no error
			l.Script("ip route del default dev up2; ip -6 route del default dev up2")
			host += `auto up2
iface up2
    address 198.51.100.10/24
    gateway 198.51.100.1
    multihomed-gateway 2001:db8:2::1
    multihomed-fwmark 0x2005
    multihomed-wireguard absent0
iface up3 inet manual
    multihomed-fwmark 0x3003
`
			l.Interfaces(host)
			l.MustMH("sync")
			noDrift(t, l)
			wantPart(t, "status", l.MustMH("status").Stdout, "absent0")
			l.WantSeen(lab.Far4, "", mark, two4)
			l.WantSeen(lab.Far6, "", mark, two6)
			l.WantRefused(lab.Far4, "", 0x3003)

			// At boot, with a line that one of them, or both, cannot read.
			l.MustMH("down")
			l.Interfaces(strings.Replace(host, "auto up1", "nonsense\nauto up1", 1) + "iface\n")
			r := l.MH("sync")
			if r.Code != 0 && r.Code != 2 {
				t.Errorf("sync: %d %s", r.Code, r.Stderr)
			}
			l.WantSeen(lab.Far4, "", mark, two4)
			l.WantRefused(lab.Far4, "", 0x3003)
			noSpoof(t, l)
		})
	}
}

// TestPPPStanza has a provider's name where others have an interface's.
func TestPPPStanza(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Script(`ip link set up2 down; ip link set up2 name ppp3; ip link set ppp3 up
ip addr replace 198.51.100.10/24 dev ppp3; ip route replace default via 198.51.100.1 dev ppp3 metric 2`)
	l.Interfaces("iface isp inet ppp\n\tprovider isp\n\tunit 3\n\tmultihomed-fwmark 0x2005\n")
	l.MustMH("sync")
	noDrift(t, l)
	l.WantSeen(lab.Far4, "", mark, two4)
	wantPart(t, "status", l.MustMH("status").Stdout, "iface isp: its device is ppp3: the stanza says unit 3")
	wantPart(t, "sync -v", l.MustMH("sync", "-v").Stderr, "iface isp: its device is ppp3")
	noSpoof(t, l)
}
