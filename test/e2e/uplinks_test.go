package e2e

import (
	"fmt"
	"testing"

	"wg-multihome/test/lab"
)

// Tables of addresses that the DHCP servers below give.
const (
	table1 = "3221226004" // 192.0.2.20
	table2 = "3325256724" // 198.51.100.20
)

// TestTwoLeases has a DHCP server and a client on each uplink. What becomes of
// one uplink is nothing to the other.
func TestTwoLeases(t *testing.T) {
	l := newLab(t)
	l.Interfaces("iface up1 inet dhcp\n\tmultihomed-fwmark 0x1001\n" + pinned)
	l.Hook()
	l.Serve(l.ISP1, "192.0.2.20", "192.0.2.20")
	l.Serve(l.ISP2, "198.51.100.20", "198.51.100.20")
	l.Dhclient("up1")
	l.WantRefused(lab.Far4, "", mark) // its guards came with the other one's lease
	l.Dhclient("up2")
	both := func() {
		t.Helper()
		l.WantSeen(lab.Far4, "", 0x1001, "192.0.2.20")
		l.WantSeen(lab.Far4, "192.0.2.20", 0, "192.0.2.20")
		l.WantSeen(lab.Far4, "", mark, "198.51.100.20")
		l.WantSeen(lab.Far4, "198.51.100.20", 0, "198.51.100.20")
		noDrift(t, l)
	}
	both()
	l.Release("up1") // takes main's only default along
	l.WantRefused(lab.Far4, "", 0x1001)
	l.WantSeen(lab.Far4, "", mark, "198.51.100.20")
	wantEqual(t, "table of up1", l.Table(table1), "")
	l.Dhclient("up1")
	both()
	noSpoof(t, l)
}

// TestLostServer has the lease run out with nobody to renew it: a real EXPIRE,
// PREINIT and FAIL.
func TestLostServer(t *testing.T) {
	l := leased(t)
	stop := l.Serve(l.ISP2, "198.51.100.20", "198.51.100.20")
	const conf = "/etc/dhcp/dhclient.conf"
	l.Write(conf, l.Read(conf)+"timeout 2; supersede dhcp-lease-time 3; supersede dhcp-renewal-time 1; supersede dhcp-rebinding-time 2;\n", 0o644)
	l.Write("/etc/dhcp/dhclient-exit-hooks.d/zzz-reason", "echo $reason >>/run/reasons\n", 0o644)
	l.Dhclient("up2")
	l.WantSeen(lab.Far4, "", mark, "198.51.100.20")
	stop()
	lab.Until(t, "the lease runs out", lab.Contains(func() string { return l.Read("/run/reasons") }, "EXPIRE\n"))
	l.WantRefused(lab.Far4, "", mark)
	lab.Until(t, "the client gives up", lab.Contains(func() string { return l.Read("/run/reasons") }, "FAIL\n"))
	l.WantRefused(lab.Far4, "", mark)
	wantEqual(t, "table", l.Table(table2), "")
	wantEqual(t, "record", l.Read("/run/wg-multihome/leases/up2.json"), "")
	for _, family := range []string{"-4", "-6"} {
		wantPart(t, "guards", l.Rules(family), "fwmark 0x2005 unreachable")
	}
	noDrift(t, l)
	noSpoof(t, l)
}

// TestHookFileHarmsNoClient sources the hook file as dhclient-script does, with
// a program that fails and without any: 0 each time, and no variable changed.
func TestHookFileHarmsNoClient(t *testing.T) {
	l := newLab(t)
	l.Hook()
	source := "reason=BOUND; interface=; exit_status=7; set >/run/before; . " + lab.HookFile + "; echo $? >/run/code; set >/run/after; diff /run/before /run/after"
	for _, c := range []struct{ name, prepare string }{{"fails", ":"}, {"is gone", "sed -i 's,^[^ ]*,/nowhere/wg-multihome,' " + lab.HookFile}} {
		l.Script(c.prepare)
		r := l.Try([]string{"reason=BOUND", "interface="}, "dash", "-c", source)
		if r.Code != 0 || l.Read("/run/code") != "0\n" {
			t.Errorf("a program that %s: status %q, variables:\n%s%s", c.name, l.Read("/run/code"), r.Stdout, r.Stderr)
		}
	}
	wantPart(t, "what the hook said", l.Read("/run/hook.log"), "interface")
}

// TestAddressOnTwoUplinks cannot tell these apart by source. It says so, leaves
// the address with the uplink that has a mark, and does the rest.
func TestAddressOnTwoUplinks(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	const shared, table = "198.51.100.77", "3325256781"
	l.Script("ip addr add " + shared + "/32 dev up1; ip addr add " + shared + "/32 dev up2")
	r := l.MH("sync")
	wantCode(t, r, 1)
	for _, part := range []string{shared, "up1", "up2"} {
		wantPart(t, "the message", r.Stderr, part)
	}
	wantPart(t, "rules", l.Rules("-4"), "from "+shared+" lookup "+table+" proto 77\n")
	wantEqual(t, "table", l.Default(table), "default via 198.51.100.1 dev up2 proto 77 src "+shared)
	l.WantSeen(lab.Far4, shared, 0, shared)
	l.WantSeen(lab.Far4, "", mark, two4)
	l.WantSeen(lab.Far4, one4, 0, one4)
	l.WantSeen(lab.Far4, two4, 0, two4)
	noSpoof(t, l)
}

// TestTwinModems has two modems that hand out one address, as many USB modems
// do. By source they cannot be told apart; by mark they can.
func TestTwinModems(t *testing.T) {
	l := newLab(t)
	const one = "192.168.8.100"
	l.Interfaces("iface up1 inet dhcp\n\tmultihomed-fwmark 0x1001\n" + pinned)
	for i, isp := range []*lab.Namespace{l.ISP1, l.ISP2} {
		isp.Script(`ip addr add 192.168.8.1/24 dev home
nft insert rule inet isp forward iifname home ip saddr 192.168.8.0/24 accept
nft add table ip modem; nft add chain ip modem post '{ type nat hook postrouting priority 100; }'; nft add rule ip modem post oifname far masquerade`)
		uplink := fmt.Sprintf("up%d", i+1)
		l.Script(fmt.Sprintf("ip addr add %s/24 dev %s; ip route add default via 192.168.8.1 dev %s metric %d", one, uplink, uplink, i+1))
		r := l.Event("reason=BOUND", "interface="+uplink, "new_ip_address="+one, "new_subnet_mask=255.255.255.0", "new_routers=192.168.8.1")
		wantCode(t, r, i)
		if i > 0 {
			wantPart(t, "what it said", r.Stderr, `address 192.168.8.100 is on uplinks "up1" and "up2", which cannot be told apart by source: "up1" keeps it`)
		}
	}
	for range 2 {
		l.WantSeen(lab.Far4, "", 0x1001, "10.1.0.1")
		l.WantSeen(lab.Far4, "", mark, "10.2.0.1")
		l.WantSeen(lab.Far4, one, 0x1001, "10.1.0.1")
		l.WantSeen(lab.Far4, one, mark, "10.2.0.1")
		l.WantSeen(lab.Far4, one, 0, "10.1.0.1")
		r := l.MH("sync")
		wantCode(t, r, 1)
	}
	wantEqual(t, "plan", l.MH("plan").Stdout, "")
	// The one that kept it goes: the other one has it whole.
	l.Script("ip addr del " + one + "/24 dev up1")
	l.MustMH("sync")
	noDrift(t, l)
	l.WantRefused(lab.Far4, "", 0x1001)
	l.WantSeen(lab.Far4, "", mark, "10.2.0.1")
	l.WantSeen(lab.Far4, one, 0, "10.2.0.1")
	noSpoof(t, l)
}

// TestSecondAddresses has more addresses than one on an uplink: each keeps its
// uplink, and the mark goes by the lowest that is neither deprecated nor
// temporary.
func TestSecondAddresses(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.Script(`ip addr add 198.51.100.9/24 dev up2; ip addr add 2001:db8:2::5/64 dev up2 nodad preferred_lft 0; ip addr add 2001:db8:2::77/64 dev up2 nodad
ip addr add 198.51.100.5/24 dev up2 preferred_lft 0`)
	l.MustMH("sync")
	noDrift(t, l)
	for _, source := range []string{two4, "198.51.100.9", "198.51.100.5"} {
		l.WantSeen(lab.Far4, source, 0, source)
	}
	for _, source := range []string{two6, "2001:db8:2::77", "2001:db8:2::5"} {
		l.WantSeen(lab.Far6, source, 0, source)
	}
	l.WantSeen(lab.Far4, "", mark, "198.51.100.9")
	l.WantSeen(lab.Far6, "", mark, two6)
	noSpoof(t, l)
}

// TestPriorityMoves moves all rules, by little and by much, while marked
// packets are sent: none may leave by the other uplink.
func TestPriorityMoves(t *testing.T) {
	l := newLab(t)
	l.Static()
	sync := func(priority int) {
		t.Helper()
		l.MustMH("sync", "--config", l.TOML(fmt.Sprintf("priority = %d\n[uplink.up2]\nfwmark = 0x2005\n", priority)))
	}
	sync(32752)
	check := noLeak(t, l)
	stops := []func() int{l.Flood(lab.Far4, mark), l.Flood(lab.Far6, mark)}
	for _, priority := range []int{32753, 32751, 32755, 32751, 32752, 32748, 100, 32761, 104, 101} {
		sync(priority)
		for _, family := range []string{"-4", "-6"} {
			wantPart(t, "rules", l.Rules(family), fmt.Sprintf("\n%d: from all fwmark 0x2005 unreachable proto 77\n", priority+2))
		}
	}
	total := 0
	for _, stop := range stops {
		total += stop()
	}
	check(total)
}

// TestPointToPoint is an uplink without a gateway, as of a modem or PPP.
func TestPointToPoint(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Script("ip -4 route del default dev up2; ip route add default dev up2 metric 9")
	l.ISP2.Run("sysctl", "-qw", "net.ipv4.conf.home.proxy_arp=1")
	l.Interfaces(pinned)
	l.MustMH("sync")
	noDrift(t, l)
	wantEqual(t, "table", l.Default("3325256714"), "default dev up2 proto 77 scope link src 198.51.100.10")
	l.WantSeen(lab.Far4, "", mark, two4)
	l.WantSeen(lab.Far4, two4, 0, two4)
	noSpoof(t, l)
}

// TestIPv6SwitchedOff: the guards hold under disable_ipv6, on all interfaces or
// the uplink alone, and everything is back when it is on again.
func TestIPv6SwitchedOff(t *testing.T) {
	for _, where := range []string{"all", "up2"} {
		t.Run(where, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Interfaces(pinned)
			l.Script("sysctl -qw net.ipv6.conf." + where + ".disable_ipv6=1")
			l.MustMH("sync")
			noDrift(t, l)
			wantPart(t, "rules", l.Rules("-6"), "32754: from all fwmark 0x2005 unreachable proto 77")
			wantNone(t, "rules", l.Rules("-6"), "fwmark 0x2005 lookup 3919028321")
			l.WantSeen(lab.Far4, "", mark, two4)
			if where == "up2" {
				l.WantRefused(lab.Far6, "", mark)
				l.WantSeen(lab.Far6, "", 0, one6)
			}
			l.Script("sysctl -qw net.ipv6.conf." + where + ".disable_ipv6=0; ip addr add 2001:db8:2::10/64 dev up2 nodad; ip route add default via 2001:db8:2::1 dev up2 metric 2")
			l.MustMH("sync")
			noDrift(t, l)
			l.WantSeen(lab.Far6, "", mark, two6)
			noSpoof(t, l)
		})
	}
}
