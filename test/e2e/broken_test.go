package e2e

import (
	"fmt"
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
