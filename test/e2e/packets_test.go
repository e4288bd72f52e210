package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// The addresses of lab.Static, and the mark of pinned.
const (
	one4, one6 = "192.0.2.10", "2001:db8:1::10"
	two4, two6 = "198.51.100.10", "2001:db8:2::10"
	mark       = 0x2005
)

func TestPacketsLeaveByTheirUplink(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.MustMH("sync")
	noDrift(t, l)
	for _, far := range []struct{ addr, one, two string }{{lab.Far4, one4, two4}, {lab.Far6, one6, two6}} {
		l.WantSeen(far.addr, "", 0, far.one)
		l.WantSeen(far.addr, far.one, 0, far.one)
		l.WantSeen(far.addr, far.two, 0, far.two)
		l.WantSeen(far.addr, "", mark, far.two)
		l.WantSeen(far.addr, far.two, mark, far.two)
	}
	noSpoof(t, l)
}

func TestWithoutUsTheRoutersDrop(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.WantRefused(lab.Far4, two4, 0)
	l.WantRefused(lab.Far6, two6, 0)
	if l.Spoofed() == 0 {
		t.Error("routers dropped nothing: the other tests would prove nothing")
	}
}

func TestStrictReversePathFilter(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Script("for d in all up1 up2; do sysctl -qw net.ipv4.conf.$d.rp_filter=1; done")
	l.Interfaces(pinned)
	l.MustMH("sync")
	l.WantSeen(lab.Far4, two4, 0, two4)
	l.WantSeen(lab.Far4, "", mark, two4)
	noSpoof(t, l)
}

func TestMarkIsRefusedBeforeTheFirstLease(t *testing.T) {
	l := newLab(t)
	l.Script("ip addr add 192.0.2.10/24 dev up1; ip route add default via 192.0.2.1; ip addr add 2001:db8:1::10/64 dev up1 nodad; ip route add default via 2001:db8:1::1")
	l.Interfaces(pinned)
	l.MustMH("sync")
	l.WantRefused(lab.Far4, "", mark)
	l.WantRefused(lab.Far6, "", mark)
	l.WantSeen(lab.Far4, "", 0, one4)
}

func TestAbsentInterfaceHasGuards(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces("iface wwan7 inet dhcp\n\tmultihomed-fwmark 0x77/0xff\n")
	l.MustMH("sync")
	for _, family := range []string{"-4", "-6"} {
		wantPart(t, "rules", l.Rules(family), "32754: from all fwmark 0x77/0xff unreachable proto 77")
	}
	l.WantRefused(lab.Far4, "", 0x177)
	l.WantSeen(lab.Far4, "", 0x178, one4)
	wantPart(t, "status", l.MustMH("status").Stdout, "absent")
}

func TestLinkDownAndUpStatic(t *testing.T) {
	l := newLab(t)
	l.Static()
	// ifupdown's own gateway: after a flap main has no default to read it from.
	l.Interfaces(`iface up2 inet static
	address 198.51.100.10/24
	gateway 198.51.100.1
	multihomed-fwmark 0x2005
`)
	l.MustMH("sync")
	l.Run("ip", "link", "set", "up2", "down")
	l.WantRefused(lab.Far4, "", mark)
	l.MustMH("sync")
	noDrift(t, l)
	l.WantRefused(lab.Far4, "", mark)
	wantPart(t, "rules", l.Rules("-4"), "fwmark 0x2005 unreachable")
	l.Run("ip", "link", "set", "up2", "up")
	l.MustMH("sync")
	l.WantSeen(lab.Far4, "", mark, two4)
	l.WantSeen(lab.Far4, two4, 0, two4)
	noSpoof(t, l)
}

func TestSecondUplinkWithoutDefaultInMain(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Script("ip route del default via 198.51.100.1 dev up2; ip -6 route del default via 2001:db8:2::1 dev up2")
	config := l.TOML("[uplink.up2]\nfwmark = 0x2005\ngateway = [\"198.51.100.1\", \"2001:db8:2::1\"]\n")
	l.MustMH("sync", "--config", config)
	l.WantSeen(lab.Far4, "", mark, two4)
	l.WantSeen(lab.Far6, "", mark, two6)
	l.WantSeen(lab.Far4, two4, 0, two4)
	noSpoof(t, l)
}

func TestHalfDefaultsInMain(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Script(`ip route add 0.0.0.0/1 via 192.0.2.1; ip route add 128.0.0.0/1 via 192.0.2.1
ip route add ::/1 via 2001:db8:1::1; ip route add 8000::/1 via 2001:db8:1::1`)
	l.Interfaces(pinned)
	l.MustMH("sync")
	l.WantSeen(lab.Far4, "", mark, two4)
	l.WantSeen(lab.Far6, two6, 0, two6)
	wantPart(t, "rules", l.Rules("-4"), "suppress_prefixlength 0 suppress_ifgroup 77")
	l.Script("ip route del 0.0.0.0/1; ip route del 128.0.0.0/1")
	l.MustMH("sync")
	noDrift(t, l)
	l.WantSeen(lab.Far4, "", mark, two4)
	noSpoof(t, l)
}

func TestDownLeavesNoTrace(t *testing.T) {
	l := newLab(t)
	l.Static()
	before := l.State()
	l.Interfaces(pinned)
	l.MustMH("sync")
	if l.State() == before {
		t.Fatal("sync changed nothing")
	}
	l.Event("reason=BOUND", "interface=up2", "new_ip_address="+two4, "new_subnet_mask=255.255.255.0", "new_routers=198.51.100.1")
	l.MustMH("down")
	wantEqual(t, "state after down", l.State(), before)
	if l.Read("/run/wg-multihome/leases/up2.json") == "" {
		t.Error("down took the lease record along")
	}
	wantNone(t, "what brings it back", l.MustMH("down").Stderr, "come back")
	l.Hook()
	wantPart(t, "what brings it back", l.MustMH("down").Stderr, lab.HookFile)
	// With files that README has people make.
	const dispatcher, again = "/etc/NetworkManager/dispatcher.d/90-wg-multihome", "/etc/systemd/system/wg-multihome-again.timer"
	l.Script("mkdir -p /etc/NetworkManager/dispatcher.d /etc/systemd/system")
	for _, file := range []string{dispatcher, again} {
		l.Script(": >" + file)
		wantPart(t, "what brings it back", l.MustMH("down").Stderr, file)
	}
}

// The seed's example: the same selectors and actions, in the same order for
// each uplink.
func TestSeedExample(t *testing.T) {
	l := newLab(t)
	l.Interfaces(`auto up1
iface up1 inet dhcp
	metric 1024

auto  up2
iface up2 inet dhcp
	metric 2048
	multihomed-fwmark 0x2005
`)
	l.Script(`ip addr add 192.168.42.222/24 dev up1; ip addr add 1.2.3.4/24 dev up2
ip route add default via 192.168.42.1 dev up1 metric 1024; ip route add default via 1.2.3.1 dev up2 metric 2048`)
	l.MustMH("sync")
	wantEqual(t, "rules", l.Rules("-4"), `0: from all lookup local
32752: from all fwmark 0x2005 lookup main suppress_prefixlength 0 suppress_ifgroup 77 proto 77
32753: from all fwmark 0x2005 lookup 16909060 proto 77
32754: from all fwmark 0x2005 unreachable proto 77
32755: from 192.168.42.222 lookup main suppress_prefixlength 0 suppress_ifgroup 77 proto 77
32755: from 1.2.3.4 lookup main suppress_prefixlength 0 suppress_ifgroup 77 proto 77
32756: from 192.168.42.222 lookup 3232246494 proto 77
32756: from 1.2.3.4 lookup 16909060 proto 77
32766: from all lookup main
32767: from all lookup default
`)
	wantEqual(t, "table 16909060", l.Table("16909060"), `default via 1.2.3.1 dev up2 proto 77 src 1.2.3.4
1.2.3.0/24 dev up2 proto 77 scope link src 1.2.3.4
192.168.42.0/24 dev up1 proto 77 scope link src 192.168.42.222`)
	wantEqual(t, "table 3232246494", l.Table("3232246494"), `default via 192.168.42.1 dev up1 proto 77 src 192.168.42.222
192.168.42.0/24 dev up1 proto 77 scope link src 192.168.42.222`)
}

func TestStatusAndPlan(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	plan := l.MustMH("plan").Stdout
	if first, _, _ := strings.Cut(plan, "\n"); first != "= link up1 group 77" {
		t.Errorf("the first step is %q", first)
	}
	wantCode(t, l.MH("plan", "--exit-code"), 3)
	wantCode(t, l.MH("status", "--exit-code"), 3)
	wantPart(t, "status", l.MustMH("status").Stdout, "MISSING  ASTRAY  ASTRAY")
	done := l.MustMH("sync").Stderr
	for _, step := range strings.Split(strings.TrimSpace(plan), "\n") {
		wantPart(t, "what sync did", done, step+"\n")
	}
	wantCode(t, l.MH("status", "--exit-code"), 0)
	var status struct {
		Uplinks []struct{ Name, Address, Gateway string }
		Marks   []struct {
			Mark, Uplink string
			Guarded      bool
			Routed4      bool `json:"routed_4"`
			Routed6      bool `json:"routed_6"`
		}
		Drift []string
	}
	if err := json.Unmarshal([]byte(wantValid(t, "status", l.MustMH("status", "--json").Stdout)), &status); err != nil {
		t.Fatal(err)
	}
	if len(status.Uplinks) != 4 || len(status.Marks) != 1 || status.Drift == nil || len(status.Drift) != 0 {
		t.Fatalf("status: %+v", status)
	}
	if m := status.Marks[0]; m.Mark != "0x2005" || m.Uplink != "up2" || !m.Guarded || !m.Routed4 || !m.Routed6 {
		t.Errorf("mark: %+v", m)
	}
	l.Script("ip route add 10.5.0.0/16 via 192.0.2.1 dev up1")
	wantPart(t, "status", l.MustMH("status").Stdout, "route 4 main 10.5.0.0/16 via 192.0.2.1 dev up1")
}

func TestMultipathDefault(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Script("ip route flush exact default; ip route add default nexthop via 192.0.2.1 dev up1 nexthop via 198.51.100.1 dev up2")
	l.MustMH("sync")
	noDrift(t, l)
	l.WantSeen(lab.Far4, one4, 0, one4)
	l.WantSeen(lab.Far4, two4, 0, two4)
	noSpoof(t, l)
}
