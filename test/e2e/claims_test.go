package e2e

import (
	"fmt"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// claim is an uplink with a mark and a lease, and another uplink whose ISP may
// lease the same address.
type claim struct {
	*lab.Lab
	t              *testing.T
	uplink, other  string
	isp, otherISP  *lab.Namespace
	address, table string // that both have
	gateway        string
	ownOther       string // an address that the other uplink has alone
	otherGateway   string
}

// newClaim gives the other uplink its own address and main's preferred default.
func newClaim(t *testing.T, uplink string) claim {
	t.Helper()
	l := newLab(t)
	c := claim{Lab: l, t: t, uplink: "up2", other: "up1", isp: l.ISP2, otherISP: l.ISP1, address: "198.51.100.20", table: table2,
		gateway: "198.51.100.1", ownOther: one4, otherGateway: "192.0.2.1"}
	if uplink == "up1" {
		c = claim{Lab: l, t: t, uplink: "up1", other: "up2", isp: l.ISP1, otherISP: l.ISP2, address: "192.0.2.20", table: table1,
			gateway: "192.0.2.1", ownOther: two4, otherGateway: "198.51.100.1"}
	}
	l.Interfaces(fmt.Sprintf("iface %s inet dhcp\n\tmultihomed-fwmark 0x2005\n", c.uplink) + byPacket)
	l.Script(fmt.Sprintf("ip addr add %s/24 dev %s; ip route add default via %s dev %[2]s metric 1", c.ownOther, c.other, c.otherGateway))
	return c
}

// lease gives an uplink the address, and runs the hook.
func (c claim) lease(reason, uplink, gateway string) lab.Result {
	c.t.Helper()
	c.Script(fmt.Sprintf("ip addr replace %s/24 dev %s", c.address, uplink))
	return c.Event("reason="+reason, "interface="+uplink, "new_ip_address="+c.address, "new_subnet_mask=255.255.255.0", "new_routers="+gateway)
}

func (c claim) own() lab.Result            { c.t.Helper(); return c.lease("BOUND", c.uplink, c.gateway) }
func (c claim) stolen(r string) lab.Result { c.t.Helper(); return c.lease(r, c.other, c.otherGateway) }
func (c claim) both(run func() lab.Result) { c.t.Helper(); c.wantError(run()); c.wantKept() }

// wantError wants status 1, and a message that names the address and both
// uplinks.
func (c claim) wantError(r lab.Result) {
	c.t.Helper()
	wantCode(c.t, r, 1)
	for _, line := range strings.Split(r.Stderr, "\n") {
		if strings.Contains(line, c.address) && strings.Contains(line, `"up1"`) && strings.Contains(line, `"up2"`) {
			return
		}
	}
	c.t.Errorf("no line of the message names %s and both uplinks:\n%s", c.address, r.Stderr)
}

// wantKept wants the uplink with the mark to have all that is the address's.
func (c claim) wantKept() {
	c.t.Helper()
	rules := c.Rules("-4")
	wantPart(c.t, "rules", rules, fmt.Sprintf("from %s lookup main suppress_prefixlength 0 suppress_ifgroup 77 proto 77\n", c.address))
	wantPart(c.t, "rules", rules, fmt.Sprintf("from %s lookup %s proto 77\n", c.address, c.table))
	wantPart(c.t, "rules", rules, fmt.Sprintf("from all fwmark 0x2005 lookup %s proto 77\n", c.table))
	wantPart(c.t, "table", c.Table(c.table), fmt.Sprintf("default via %s dev %s proto 77 src %s", c.gateway, c.uplink, c.address))
	c.WantSeen(lab.Far4, "", mark, c.address)
	c.WantSeen(lab.Far4, c.address, 0, c.address)
	c.WantSeen(lab.Far4, c.ownOther, 0, c.ownOther) // the rest was done
	r := c.MH("plan")
	wantCode(c.t, r, 1)
	wantEqual(c.t, "a second run's steps", r.Stdout, "")
}

// wantMarkRouted wants the mark to leave by its uplink, with the address: by a
// table of its own, as the other uplink had the address first and keeps the
// address's.
func (c claim) wantMarkRouted() {
	c.t.Helper()
	wantPart(c.t, "table", c.Table(c.table), "default via "+c.otherGateway+" dev "+c.other)
	wantPart(c.t, "rules", c.Rules("-4"), fmt.Sprintf("from %s lookup %s proto 77\n", c.address, c.table))
	c.WantSeen(lab.Far4, "", mark, c.address)
	c.WantSeen(lab.Far4, c.ownOther, 0, c.ownOther)
	r := c.MH("plan")
	wantCode(c.t, r, 1)
	wantEqual(c.t, "a second run's steps", r.Stdout, "")
}

// TestAddressOfAMarkedUplink has an ISP lease the address of another ISP. It stays
// with the uplink that had it, and where neither had it, with the one that has a
// mark. No packet of the mark leaves by the other one.
func TestAddressOfAMarkedUplink(t *testing.T) {
	for _, uplink := range []string{"up1", "up2"} {
		t.Run(uplink+" has it", func(t *testing.T) {
			c := newClaim(t, uplink)
			wantCode(t, c.own(), 0)
			c.flooded(func() {
				c.both(func() lab.Result { return c.stolen("BOUND") })
				c.both(func() lab.Result { return c.stolen("RENEW") })
				// Its table goes with the link, and nothing tells any more who had
				// the address.
				c.Script(fmt.Sprintf("ip link set %s down; ip link set %[1]s up", c.uplink))
				c.both(func() lab.Result { return c.MH("sync") })
			})
		})
		t.Run(uplink+" gets it", func(t *testing.T) {
			c := newClaim(t, uplink)
			wantCode(t, c.stolen("BOUND"), 0)
			wantPart(t, "table", c.Table(c.table), "dev "+c.other)
			c.flooded(func() { c.wantError(c.own()); c.wantMarkRouted() })
		})
		t.Run(uplink+" on a fresh start", func(t *testing.T) {
			c := newClaim(t, uplink)
			wantCode(t, c.own(), 0)
			c.stolen("BOUND")
			c.MustMH("down") // which keeps both records
			c.both(func() lab.Result { return c.MH("sync") })
			c.flooded(func() { c.both(func() lab.Result { return c.stolen("RENEW") }) })
		})
	}
}

// flooded wants no packet of the mark to leave by the other uplink while do
// runs, nor to be held by the second lock alone.
func (c claim) flooded(do func()) {
	c.t.Helper()
	sent(c.t, c.otherISP)
	stop := c.Flood(lab.Far4, mark)
	do()
	total := stop()
	if total == 0 {
		c.t.Error("no marked packet was sent")
	}
	if leaked := sent(c.t, c.otherISP); leaked != 0 {
		c.t.Errorf("%d of %d marked packets left by %s", leaked, total, c.other)
	}
	if held := lockDropped(c.t, c.Lab); held != 0 {
		c.t.Errorf("%d of %d marked packets were held by the second lock alone", held, total)
	}
}
