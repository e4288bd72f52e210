package e2e

import (
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// record is the file of up2's lease.
const record = "/run/wg-multihome/leases/up2.json"

// leasedBy is a lab with two static uplinks, the second one pinned, where a
// client has told of up2's address as a lease. Main has no default for it.
func leasedBy(t *testing.T) *lab.Lab {
	t.Helper()
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.Run("ip", "route", "del", "default", "dev", "up2")
	wantCode(t, l.Event("reason=BOUND", "interface=up2", "new_ip_address="+two4, "new_subnet_mask=255.255.255.0", "new_routers=198.51.100.1"), 0)
	l.WantSeen(lab.Far4, "", mark, two4)
	return l
}

// TestEventsOfIPv6KeepTheLease: no event of one family ends what the other one
// has.
func TestEventsOfIPv6KeepTheLease(t *testing.T) {
	l := leasedBy(t)
	before := l.Read(record)
	for _, reason := range []string{"BOUND6", "RENEW6", "DEPREF6", "EXPIRE6", "RELEASE6", "STOP6"} {
		wantCode(t, l.ClientEvent("dhclient", "", "reason="+reason, "interface=up2", "old_ip6_address=2001:db8:2::10"), 0)
	}
	for reason, protocol := range map[string]string{"ROUTERADVERT": "ra", "EXPIRE6": "dhcp6", "STOP6": "dhcp6", "STATIC6": "static6", "IPV4LL": "ipv4ll"} {
		wantCode(t, l.ClientEvent("dhcpcd", "", "reason="+reason, "protocol="+protocol, "if_up=false", "if_down=true", "interface=up2"), 0)
	}
	wantCode(t, l.ClientEvent("udhcpc", "bound", "interface=up2", "ipv6=2001:db8:2::10"), 0)
	wantCode(t, l.ClientEvent("udhcpc", "deconfig", "interface=up2"), 0) // of udhcpc6
	wantEqual(t, "record", l.Read(record), before)
	l.WantSeen(lab.Far4, "", mark, two4)

	// And the other way round.
	l.Run("ip", "addr", "del", two4+"/24", "dev", "up2")
	wantCode(t, l.Event("reason=EXPIRE", "interface=up2"), 0)
	wantEqual(t, "record", l.Read(record), "")
	l.WantRefused(lab.Far4, "", mark)
	l.WantSeen(lab.Far6, "", mark, two6)
	noDrift(t, l)
	noSpoof(t, l)
}

// TestDeconfigEndsTheLeaseWithItsAddress: udhcpc's word does not say which family
// it is about.
func TestDeconfigEndsTheLeaseWithItsAddress(t *testing.T) {
	l := leasedBy(t)
	wantCode(t, l.ClientEvent("udhcpc", "nak", "interface=up2", "ip=0.0.0.0"), 0)
	wantCode(t, l.ClientEvent("udhcpc", "leasefail", "interface=up2"), 0)
	wantCode(t, l.ClientEvent("udhcpc", "deconfig", "interface=up2"), 0)
	wantPart(t, "record", l.Read(record), two4)
	l.Run("ip", "-4", "addr", "flush", "dev", "up2")
	wantCode(t, l.ClientEvent("udhcpc", "deconfig", "interface=up2"), 0)
	wantEqual(t, "record", l.Read(record), "")
	l.WantRefused(lab.Far4, "", mark)
	noDrift(t, l)
}

// TestAnotherClientsEventIsRefused: nothing is recorded, and what the kernel
// shows is converged.
func TestAnotherClientsEventIsRefused(t *testing.T) {
	lease := []string{"reason=BOUND", "interface=up2", "new_ip_address=" + two4, "new_subnet_mask=255.255.255.0", "new_routers=198.51.100.9"}
	for client, variables := range map[string][]string{
		"dhclient": append([]string{"protocol=dhcp", "if_up=true", "if_down=false", "new_classless_static_routes=0.0.0.0/0 198.51.100.1"}, lease...),
		"dhcpcd":   lease,
	} {
		t.Run(client, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Interfaces(pinned)
			r := l.ClientEvent(client, "", variables...)
			wantCode(t, r, 2)
			wantPart(t, "what it said", r.Stderr, map[string]string{"dhclient": "--client dhcpcd", "dhcpcd": "protocol is not set"}[client])
			wantEqual(t, "record", l.Read(record), "")
			l.WantSeen(lab.Far4, "", mark, two4)
			noDrift(t, l)
		})
	}
}

// TestNoClientsEvent: what no client has called changes nothing.
func TestNoClientsEvent(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	before := l.State()
	oneLine(t, l.ClientEvent("udhcpc", "", "interface=up2", "ip="+two4), "argument")
	oneLine(t, l.ClientEvent("dhcpcd", "", "interface=up2", "protocol=dhcp"), "reason")
	oneLine(t, l.ClientEvent("dhclient", "bound", "interface=up2", "reason=BOUND"), `"bound"`)
	oneLine(t, l.MH("exit-hook", "--client", "udhcpc", "bound", "again"))
	wantEqual(t, "state", l.State(), before)
}

// TestNewAddressIsWaitedFor: the kernel refuses an address as a source while it
// looks for duplicates, and dhclient's hook comes right then.
func TestNewAddressIsWaitedFor(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.MustMH("sync")
	l.Script("echo 1 >/proc/sys/net/ipv6/conf/up2/accept_dad; ip addr add 2001:db8:2::20/128 dev up2")
	wantPart(t, "the new address", l.Run("ip", "addr", "show", "dev", "up2", "tentative"), "2001:db8:2::20")
	wantCode(t, l.ClientEvent("dhclient", "", "reason=BOUND6", "interface=up2", "new_ip6_address=2001:db8:2::20"), 0)
	wantPart(t, "rules", l.Rules("-6"), "from 2001:db8:2::20 lookup ")
	l.WantSeen(lab.Far6, "2001:db8:2::20", 0, "2001:db8:2::20")
	noDrift(t, l)

	// The router has this one.
	l.Script("ip addr add 2001:db8:2::1/128 dev up2")
	wantCode(t, l.ClientEvent("dhclient", "", "reason=RENEW6", "interface=up2", "new_ip6_address=2001:db8:2::1"), 0)
	wantPart(t, "the duplicate", l.Run("ip", "addr", "show", "dev", "up2", "dadfailed"), "2001:db8:2::1/128")
	if strings.Contains(l.Rules("-6"), "from 2001:db8:2::1 ") {
		t.Error("a duplicate has a source rule")
	}
	noDrift(t, l)
}
