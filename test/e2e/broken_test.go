package e2e

import (
	"fmt"
	"math"
	"slices"
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

// TestRestartAfterItsNumberWentOn: another uplink gets a service's number, and its own has
// an error in place of its new one. However often it starts anew, it does not leave by
// another uplink. What the other uplink pins does; and once the error is mended the service
// is back by its own, and nothing is left of the time between.
func TestRestartAfterItsNumberWentOn(t *testing.T) {
	const other = "test.slice/b.service"
	full := [...]string{"0x100", "0x2005", "0x300"}
	bit := [...]string{"0x1/0x3", "0x2/0x2", "0x1/0x3"} // whose mask has no other number
	for _, c := range []struct {
		way   string
		marks [3]string // of the other uplink, of this one, and of this one at last
	}{{"socket", full}, {"packet", full}, {"socket", bit}, {"packet", bit}} {
		text := func(one, two string) string {
			return fmt.Sprintf("marking = %q\n[uplink.up1]\nfwmark = %q\ncgroups = [%q]\n[uplink.up2]\nfwmark = %q\ncgroups = [%q]\n", c.way, one, other, two, socketService)
		}
		for name, restart := range map[string]func(t *testing.T, l *lab.Lab, sync func(...string) lab.Result){
			"before the run": func(t *testing.T, l *lab.Lab, sync func(...string) lab.Result) {
				l.Cgroups().Remove(socketService)
				wantCode(t, sync(), 2)
				l.Cgroups().Make(socketService)
			},
			"after it": func(t *testing.T, l *lab.Lab, sync func(...string) lab.Result) {
				wantCode(t, sync(), 2)
				wantCutOff(t, l, socketService, lab.Far4)
				wantCutOff(t, l, socketService, lab.Far6)
				l.Cgroups().Remove(socketService)
				l.Cgroups().Make(socketService)
			},
		} {
			t.Run(fmt.Sprintf("%s, by %s, %s", name, c.way, strings.ReplaceAll(c.marks[1], "/", " of ")), func(t *testing.T) {
				l := newLab(t)
				l.Static()
				l.Cgroups().Make(socketService)
				l.Cgroups().Make(other)
				config := l.TOML(text(c.marks[0], c.marks[1]))
				sync := func(args ...string) lab.Result { return l.MH(append([]string{"sync", "--config", config}, args...)...) }
				sync()
				wantService(t, l, socketService, lab.Far4, two4)
				l.TOML(text(c.marks[1], "0x30O"))
				restart(t, l, sync)
				for _, args := range [][]string{{"--hook"}, nil, {"--hook"}} {
					sync(args...)
					wantCutOff(t, l, socketService, lab.Far4)
					wantCutOff(t, l, socketService, lab.Far6)
					wantService(t, l, other, lab.Far4, one4)
					wantService(t, l, other, lab.Far6, one6)
				}
				wantEqual(t, "plan", l.MH("plan", "--config", config).Stdout, "")
				said := l.MH("status", "--config", config).Stdout
				wantPart(t, "status", said, "REFUSED")
				wantPart(t, "status", said, `uplink "up2": its mark cannot be read, and `+c.marks[1]+`, which it had, is not its any more`)
				l.TOML(text(c.marks[1], c.marks[2]))
				wantCode(t, sync(), 0)
				wantService(t, l, socketService, lab.Far4, two4)
				wantService(t, l, socketService, lab.Far6, two6)
				wantEqual(t, "marks", marksOf(l.Rules("-4")+l.Rules("-6")), strings.Join(slices.Sorted(slices.Values(c.marks[1:])), " "))
				wantEqual(t, "plan", l.MustMH("plan", "--exit-code", "--config", config).Stdout, "")
				noSpoof(t, l)
			})
		}
	}
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

// TestTunnelAfterItsNumberWentOn: likewise a tunnel, which runs with the number or starts
// anew without one. Its uplink may have an error, or be missing beside one.
func TestTunnelAfterItsNumberWentOn(t *testing.T) {
	const whole = "[uplink.up1]\nfwmark = %s\n[uplink.up2]\nfwmark = %s\nwireguard = [\"wg0\"]\n"
	for name, broken := range map[string]string{
		"an error in its mark":            fmt.Sprintf(whole, "0x2005", `"0x30O"`),
		"missing, and an error elsewhere": "[uplink.up1]\nfwmark = 0x2005\n[uplink.up3]\nfwmark = 0\n",
	} {
		for _, anew := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, anew %t", name, anew), func(t *testing.T) {
				l := newLab(t)
				l.Static()
				hostConfig, farConfig := peers(t)
				far := l.Tunnel(l.Far, "wg0", farConfig)
				host := l.Tunnel(l.Namespace, "wg0", hostConfig)
				const up = "ip addr add 10.200.0.1/24 dev wg0; ip link set wg0 up"
				config := l.TOML(fmt.Sprintf(whole, "0x100", "0x2005"))
				l.MustMH("sync", "--config", config)
				l.Script(up)
				lab.Until(t, "a handshake by the second uplink", func() bool { return strings.HasPrefix(far.Get("endpoint"), two4+":") })
				count := func() {
					l.ISP1.Script(`nft -f - <<end
table inet seen { chain through { type filter hook forward priority 0; ip daddr ` + lab.Far4 + ` udp dport 51820 counter; }; }
end`)
				}
				l.TOML(broken)
				if anew {
					host.Stop()
				} else {
					count()
				}
				wantCode(t, l.MH("sync", "--config", config), 2)
				if anew {
					host = l.Tunnel(l.Namespace, "wg0", hostConfig)
					l.MustMH("sync", "--hook", "--config", config)
					count() // before that it was not pinned
					l.Script(up)
				}
				wantEqual(t, "mark of the device", host.Get("fwmark"), fmt.Sprint(uint32(math.MaxUint32)))
				l.Script("ping -qc 8 -i 0.2 -W 1 10.200.0.2 >/dev/null && exit 1; true")
				wantPart(t, "the first ISP", l.ISP1.Run("nft", "list", "table", "inet", "seen"), "counter packets 0 ")
				wantPart(t, "status", l.MH("status", "--config", config).Stdout, "REFUSED")
				l.WantSeen(lab.Far4, "", 0x2005, one4)
				l.TOML(fmt.Sprintf(whole, "0x2005", "0x300"))
				l.MustMH("sync", "--config", config)
				wantEqual(t, "mark of the device", host.Get("fwmark"), "768")
				l.Script("ping -qc 20 -i 0.2 -W 1 10.200.0.2 | grep -q ' 0 received' && exit 1; true")
				wantPart(t, "the first ISP", l.ISP1.Run("nft", "list", "table", "inet", "seen"), "counter packets 0 ")
				wantEqual(t, "marks", marksOf(l.Rules("-4")+l.Rules("-6")), "0x2005 0x300")
			})
		}
	}
}

// marksOf returns the marks that rules have, each once.
func marksOf(rules string) string {
	var marks []string
	for _, line := range strings.Split(rules, "\n") {
		if _, after, has := strings.Cut(line, "fwmark "); has {
			marks = append(marks, strings.Fields(after)[0])
		}
	}
	slices.Sort(marks)
	return strings.Join(slices.Compact(marks), " ")
}
