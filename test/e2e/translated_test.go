package e2e

import (
	"testing"

	"wg-multihome/test/lab"
)

// TestServiceHasTheUplinksAddress, and not the first one of the interface: that of a
// modem's management, or one older than the lease.
func TestServiceHasTheUplinksAddress(t *testing.T) {
	l := newLab(t)
	l.IP("addr add 192.168.100.2/24 dev up2\naddr add 198.51.100.9/24 dev up2")
	l.Static()
	l.IP("addr add 2001:db8:2::9/64 dev up2 nodad") // the newest is the first
	service, config := packetService(t, l)
	lease := func(addr string) {
		t.Helper()
		event := []string{"reason=BOUND", "interface=up2", "new_ip_address=" + addr, "new_subnet_mask=255.255.255.0", "new_routers=198.51.100.1"}
		wantCode(t, l.Try(event, l.Binary, "exit-hook", "--config", config), 0)
	}
	lease(two4)
	noDriftOf(t, l, config)
	wantService(t, l, service, lab.Far4, two4)
	flows := talks(l, service)
	wantSaid(t, "begun", flows, two4, "2001:db8:2::9")
	bound := l.Talk(lab.Query{Far: lab.Far4, Cgroup: service, Source: "198.51.100.9"})
	wantSaid(t, "bound to another address of the uplink", []*lab.Talk{bound}, "198.51.100.9")

	const next = "198.51.100.12"
	l.IP("addr add " + next + "/24 dev up2\naddr del " + two4 + "/24 dev up2")
	lease(next)
	wantService(t, l, service, lab.Far4, next)
	wantSaid(t, "renumbered", append(flows, bound), next, "2001:db8:2::9", "198.51.100.9")
	noSpoof(t, l)
}

// TestServerOnNoAddressAnswers by UDP where it was asked by its own uplink: its route
// has another uplink's source.
func TestServerOnNoAddressAnswers(t *testing.T) {
	l := newLab(t)
	l.Static()
	const second4, second6 = "198.51.100.20", "2001:db8:2::20"
	l.IP("addr add " + second4 + "/24 dev up2\naddr add " + second6 + "/64 dev up2 nodad")
	service, config := packetService(t, l)
	l.MustMH("sync", "--config", config)
	l.Echo(l.Namespace, service, "::")
	for _, addr := range []string{two4, two6, second4, second6} {
		seen := lab.Far4
		if addr == two6 || addr == second6 {
			seen = lab.Far6
		}
		asker := l.Talk(lab.Query{From: l.Far, Far: addr, Source: seen})
		for range 3 {
			wantSaid(t, addr, []*lab.Talk{asker}, seen)
		}
		if got := l.Ask(lab.Query{From: l.Far, Network: "tcp", Far: addr}); got != seen {
			t.Errorf("tcp to %s: the service saw %q", addr, got)
		}
	}
	// What it asks itself leaves by its uplink, too.
	for _, far := range []struct{ addr, seen string }{{lab.Far4, two4}, {lab.Far6, two6}} {
		if got := l.Ask(lab.Query{Network: "udp", Far: far.addr, Cgroup: service}); got != far.seen && got != second6 {
			t.Errorf("%s: far saw %q", far.addr, got)
		}
	}
	noSpoof(t, l)
}
