//go:build guest

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestSystemdPapers runs what the topics have people type about units on a
// machine that systemd runs: they are enabled and can be started, and what takes
// them away leaves nothing.
func TestSystemdPapers(t *testing.T) {
	for _, p := range readPapers(t) {
		var blocks []block
		for _, b := range p.blocks {
			if b.kind == "sh" && b.lab == "units" {
				blocks = append(blocks, b)
			}
		}
		if len(blocks) == 0 {
			continue
		}
		t.Run(p.file, func(t *testing.T) {
			l := machine(t)
			machineFile(t, "/etc/network/interfaces", pinned, 0o644)
			for _, b := range blocks {
				units := regexp.MustCompile(`(?m)^cat >(/etc/systemd/system/(\S+))`).FindAllStringSubmatch(b.text, -1)
				installs := strings.Contains(b.text, "wg-multihome install")
				if installs {
					for _, u := range installedUnits {
						units = append(units, []string{"", "/etc/systemd/system/" + u, u})
					}
				}
				for _, u := range units {
					t.Cleanup(func() {
						_ = exec.Command("systemctl", "disable", "--now", u[2]).Run()
						_ = os.Remove(u[1])
					})
					if strings.HasSuffix(u[2], ".service") {
						unitOnHost(t, l, u[2], "")
					}
				}
				if out, err := l.Outside("sh", "-euc", b.text).CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s\n%s", b, err, b.text, out)
				}
				for _, u := range units {
					systemctl(t, "start", u[2])
					if err := exec.Command("systemctl", "is-failed", "--quiet", u[2]).Run(); err == nil {
						t.Errorf("%s: %s has failed", b, u[2])
					}
				}
				if installs || strings.Contains(b.text, "sync --hook") {
					wantPart(t, fmt.Sprintf("rules after %s", b), l.Rules("-4"), "fwmark 0x2005 unreachable proto 77")
				}
			}
			if last := blocks[len(blocks)-1].text; strings.Contains(last, "wg-multihome uninstall") {
				wantNone(t, "rules after uninstall", l.Rules("-4"), "proto 77")
				list, err := exec.Command("sh", "-c", "find /etc /usr/lib/systemd -name '*wg-multihome*'").Output()
				fatal(t, err)
				wantNone(t, "what is left", string(list), "wg-multihome")
			}
		})
	}
}

// installedUnits are the units that install writes.
var installedUnits = []string{"wg-multihome.service", "wg-multihome-watch.service"}

// networkdSettings are those that install writes.
func networkdSettings(t *testing.T) {
	t.Helper()
	const file = "/etc/systemd/networkd.conf.d/50-wg-multihome.conf"
	machineFile(t, file, installedText(t, "/etc/systemd/network/any.network", file), 0o644)
}
