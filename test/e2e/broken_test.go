package e2e

import (
	"fmt"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// TestRestartWhileBroken: a service that starts anew while the configuration has an error
// is pinned as before, whatever of it can be read, also where another run comes while
// its cgroup is gone.
func TestRestartWhileBroken(t *testing.T) {
	const whole = "[uplink.up2]\nfwmark = 0x2005\ncgroups = [%q]\nmarking = %q\n"
	for name, text := range map[string]string{
		"no mark of another uplink": "[uplink.up1]\nfwmark = 0\n" + whole,
		"an unknown key":            whole + "gatway = [\"198.51.100.1\"]\n",
		"a mark of two uplinks":     "[uplink.up1]\nfwmark = 0x2005\n" + whole,
		"a cgroup of two uplinks":   "[uplink.up1]\nfwmark = 1\ncgroups = [%[1]q]\nmarking = %[2]q\n[uplink.up2]\nfwmark = 0x2005\ncgroups = [%[1]q]\nmarking = %[2]q\n",
		"cgroups of another type":   "[uplink.up2]\nfwmark = 0x2005\nmarking = %[2]q\ncgroups = [%[1]q, 7]\n",
		"no TOML":                   whole + "[uplink.up1\n",
	} {
		for _, way := range []string{"socket", "packet"} {
			t.Run(name+", by "+way, func(t *testing.T) {
				l := newLab(t)
				l.Static()
				cgroups := l.Cgroups()
				cgroups.Make(socketService)
				config := l.TOML(fmt.Sprintf(whole, socketService, way))
				l.MustMH("sync", "--config", config)
				l.TOML(fmt.Sprintf(text, socketService, way))
				cgroups.Remove(socketService)
				wantCode(t, l.MH("sync", "--config", config), 2)
				cgroups.Make(socketService)
				l.MustMH("sync", "--hook", "--config", config)
				for far, seen := range map[string]string{lab.Far4: two4, lab.Far6: two6} {
					wantService(t, l, socketService, far, seen)
				}
				wantPart(t, "status", l.MH("status", "--config", config).Stdout, "  pinned")
				noSpoof(t, l)
			})
		}
	}
}

// TestRestartBesideWatchWhileBroken: watch, started with the error, hears of the
// service's new cgroup.
func TestRestartBesideWatchWhileBroken(t *testing.T) {
	l := newLab(t)
	l.Static()
	cgroups := l.Cgroups()
	cgroups.Make(socketService)
	const whole = "[uplink.up2]\nfwmark = 0x2005\ncgroups = [\"" + socketService + "\"]\n"
	config := l.TOML(whole)
	l.MustMH("sync", "--config", config)
	l.TOML(whole + "[uplink.up1\n")
	l.Watch("--config", config)
	cgroups.Remove(socketService)
	cgroups.Make(socketService)
	lab.Until(t, "the service is pinned", func() bool {
		return strings.Contains(l.MH("status", "--config", config).Stdout, "pinned by socket")
	})
	wantService(t, l, socketService, lab.Far4, two4)
}

// TestNumberGoesOnWhileBroken: another uplink gets a number, and the one whose it was has
// an error in place of its new one. What it pins does not leave by another uplink.
func TestNumberGoesOnWhileBroken(t *testing.T) {
	for _, way := range []string{"socket", "packet"} {
		t.Run(way, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Cgroups().Make(socketService)
			text := func(one, two string) string {
				return fmt.Sprintf("[uplink.up1]\nfwmark = %s\n[uplink.up2]\nfwmark = %s\ncgroups = [%q]\nmarking = %q\n", one, two, socketService, way)
			}
			config := l.TOML(text("0x100", "0x200"))
			l.MustMH("sync", "--config", config)
			wantService(t, l, socketService, lab.Far4, two4)
			l.TOML(text("0x200", `"0x10O"`))
			l.MustMH("sync", "--hook", "--config", config)
			if got := l.Ask(lab.Query{Network: "udp", Far: lab.Far4, Cgroup: socketService}); !strings.HasPrefix(got, "error: ") {
				t.Errorf("far saw %s, want nothing", got)
			}
		})
	}
}
