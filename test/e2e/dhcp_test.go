package e2e

import (
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// leased is a lab whose first uplink is static, and whose second one has the
// hook and a mark.
func leased(t *testing.T) *lab.Lab {
	t.Helper()
	l := newLab(t)
	l.Script("ip addr add 192.0.2.10/24 dev up1; ip route add default via 192.0.2.1 dev up1 metric 9")
	l.Interfaces(pinned)
	l.Hook()
	return l
}

func TestFirstLeaseReleaseAndStop(t *testing.T) {
	l := leased(t)
	l.Serve(l.ISP2, "198.51.100.20", "198.51.100.20")
	l.Dhclient("up2")
	l.WantSeen(lab.Far4, "", mark, "198.51.100.20")
	l.WantSeen(lab.Far4, "198.51.100.20", 0, "198.51.100.20")
	wantEqual(t, "told", l.ToldLog(), "up up1 4 - 192.0.2.10 192.0.2.1 - 3221225994\nup up2 4 - 198.51.100.20 198.51.100.1 0x2005 3325256724\n")
	noDrift(t, l)
	l.Release("up2")
	if l.Read("/run/wg-multihome/leases/up2.json") != "" {
		t.Error("the record outlived the release")
	}
	l.WantRefused(lab.Far4, "", mark)
	noDrift(t, l)
	l.Dhclient("up2")
	l.WantSeen(lab.Far4, "", mark, "198.51.100.20")
	wantPart(t, "told", l.ToldLog(), "\nrenew up2 4 198.51.100.20 198.51.100.20 198.51.100.1 0x2005 3325256724\n")
	l.Stop("up2")
	if l.Read("/run/wg-multihome/leases/up2.json") != "" {
		t.Error("the record outlived STOP")
	}
	l.WantRefused(lab.Far4, "", mark)
	noSpoof(t, l)
}

func TestRenumberingByNAK(t *testing.T) {
	l := leased(t)
	stop := l.Serve(l.ISP2, "198.51.100.20", "198.51.100.20")
	l.Dhclient("up2")
	l.Stop("up2")
	stop()
	l.Serve(l.ISP2, "198.51.100.40", "198.51.100.40")
	l.Dhclient("up2") // asks for .20 again, and is refused
	l.WantSeen(lab.Far4, "", mark, "198.51.100.40")
	wantNone(t, "rules", l.Rules("-4"), "198.51.100.20")
	wantPart(t, "told", l.ToldLog(), "change up2 4 198.51.100.20 198.51.100.40 198.51.100.1 0x2005")
	noDrift(t, l)
	noSpoof(t, l)
}

func TestRenewBringsANewRouter(t *testing.T) {
	l := leased(t)
	// Where the second router stands, far's answers come through as well.
	l.ISP2.Run("ip", "addr", "add", "198.51.100.2/24", "dev", "home")
	stop := l.Serve(l.ISP2, "198.51.100.20", "198.51.100.20")
	l.RenewAfter(3)
	l.Dhclient("up2")
	wantPart(t, "table", l.Table("3325256724"), "via 198.51.100.1 ")
	stop()
	l.Serve(l.ISP2, "198.51.100.20", "198.51.100.20", "--dhcp-option=option:router,198.51.100.2")
	lab.Until(t, "the renewal", lab.Contains(func() string { return l.Table("3325256724") }, "via 198.51.100.2 "))
	lab.Until(t, "the change is told", lab.Contains(l.ToldLog, "change up2 4 198.51.100.20 198.51.100.20 198.51.100.2 0x2005"))
	l.WantSeen(lab.Far4, "", mark, "198.51.100.20")
	noSpoof(t, l)
}

func TestOption121(t *testing.T) {
	l := leased(t)
	l.ISP2.Run("ip", "addr", "add", "198.51.100.3/24", "dev", "home")
	l.Serve(l.ISP2, "198.51.100.20", "198.51.100.20", "--dhcp-option=121,10.99.0.0/16,198.51.100.1,0.0.0.0/0,198.51.100.3")
	l.Dhclient("up2")
	wantPart(t, "table", l.Table("3325256724"), "default via 198.51.100.3 dev up2")
	l.WantSeen(lab.Far4, "", mark, "198.51.100.20")
	wantPart(t, "status names the longer route", l.MH("status").Stdout, "UPLINK")
}

func TestOption121WithoutADefault(t *testing.T) {
	l := leased(t)
	l.Serve(l.ISP2, "198.51.100.20", "198.51.100.20", "--dhcp-option=121,10.99.0.0/16,198.51.100.1")
	l.Dhclient("up2")
	wantEqual(t, "table", l.Table("3325256724"), "")
	l.WantRefused(lab.Far4, "", mark)
}

func TestHostLease(t *testing.T) {
	l := leased(t)
	l.Serve(l.ISP2, "198.51.100.20", "198.51.100.20", "--dhcp-option=option:netmask,255.255.255.255")
	l.Dhclient("up2")
	wantPart(t, "addresses", l.Run("ip", "addr", "show", "up2"), "198.51.100.20/32")
	l.WantSeen(lab.Far4, "", mark, "198.51.100.20")
	noSpoof(t, l)
}

func TestOffSubnetRouter(t *testing.T) {
	l := leased(t)
	l.ISP2.Run("ip", "addr", "add", "172.31.1.1/32", "dev", "home")
	l.Serve(l.ISP2, "198.51.100.20", "198.51.100.20", "--dhcp-option=option:router,172.31.1.1")
	l.Dhclient("up2")
	wantPart(t, "table", l.Table("3325256724"), "via 172.31.1.1 dev up2")
	l.WantSeen(lab.Far4, "", mark, "198.51.100.20")
	noSpoof(t, l)
}

func TestTwoRouters(t *testing.T) {
	l := leased(t)
	l.Serve(l.ISP2, "198.51.100.20", "198.51.100.20", "--dhcp-option=option:router,198.51.100.1,198.51.100.9")
	l.Dhclient("up2")
	wantPart(t, "table", l.Table("3325256724"), "default via 198.51.100.1 dev up2")
	l.WantSeen(lab.Far4, "", mark, "198.51.100.20")
}

func TestExpireAndFail(t *testing.T) {
	for _, reason := range []string{"EXPIRE", "FAIL"} {
		t.Run(reason, func(t *testing.T) {
			l := leased(t)
			l.Serve(l.ISP2, "198.51.100.20", "198.51.100.20")
			l.Dhclient("up2")
			variables := []string{"reason=" + reason, "interface=up2"}
			if reason == "EXPIRE" {
				variables = append(variables, "old_ip_address=198.51.100.20", "old_subnet_mask=255.255.255.0")
			} else {
				// FAIL comes after PREINIT has taken the address, and says nothing.
				l.Run("ip", "addr", "flush", "dev", "up2")
			}
			l.DhclientScript(variables...)
			wantEqual(t, "table", l.Table("3325256724"), "")
			wantNone(t, "rules", l.Rules("-4"), "198.51.100.20")
			for _, family := range []string{"-4", "-6"} {
				wantPart(t, "guards", l.Rules(family), "fwmark 0x2005 unreachable")
			}
			l.WantRefused(lab.Far4, "", mark)
			noDrift(t, l)
			noSpoof(t, l)
		})
	}
}

func TestLinkDownAndUpLeased(t *testing.T) {
	l := leased(t)
	l.Serve(l.ISP2, "198.51.100.20", "198.51.100.20")
	l.Dhclient("up2")
	l.Script("ip link set up2 down; ip link set up2 up") // takes main's default as well
	wantEqual(t, "main", l.Run("ip", "route", "show", "default", "dev", "up2"), "")
	l.WantRefused(lab.Far4, "", mark)
	l.MustMH("sync")
	l.WantSeen(lab.Far4, "", mark, "198.51.100.20")
	noSpoof(t, l)
}

func TestNoLeaseRecord(t *testing.T) {
	l := leased(t)
	l.Serve(l.ISP2, "198.51.100.20", "198.51.100.20")
	l.Dhclient("up2")
	l.Run("rm", "-r", "/run/wg-multihome")
	l.MustMH("sync") // the gateway is in main's default
	noDrift(t, l)
	l.WantSeen(lab.Far4, "", mark, "198.51.100.20")
	// Without that one either, the mark is refused rather than misled.
	l.Run("rm", "-r", "/run/wg-multihome")
	l.Run("ip", "route", "del", "default", "dev", "up2")
	l.MustMH("sync")
	l.WantRefused(lab.Far4, "", mark)
}

func TestPreinitAndUnknownReasonsDoNothing(t *testing.T) {
	l := leased(t)
	before := l.State()
	for _, reason := range []string{"PREINIT", "MEDIUM", "ARPCHECK", "ARPSEND", "SOMETHING6"} {
		r := l.Event("reason="+reason, "interface=up2")
		wantCode(t, r, 0)
		wantEqual(t, "output of "+reason, r.Stdout+r.Stderr, "")
	}
	wantEqual(t, "state", l.State(), before)
}

func TestNoConfigurationAtAll(t *testing.T) {
	l := newLab(t)
	l.Script("ip addr add 192.0.2.10/24 dev up1; ip route add default via 192.0.2.1 dev up1")
	l.Hook()
	l.Serve(l.ISP2, "198.51.100.20", "198.51.100.20")
	l.Dhclient("up2")
	l.WantSeen(lab.Far4, "198.51.100.20", 0, "198.51.100.20")
	l.WantSeen(lab.Far4, "192.0.2.10", 0, "192.0.2.10")
	noSpoof(t, l)
	if !strings.Contains(l.ToldLog(), "up up2 4 - 198.51.100.20 198.51.100.1 - 3325256724") {
		t.Errorf("told: %s", l.ToldLog())
	}
}
