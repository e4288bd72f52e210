package e2e

import (
	"fmt"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// pinnedService has mark 0x2005 on up2, and a service there. It returns the
// service's cgroup.
func pinnedService(t *testing.T, l *lab.Lab) string {
	t.Helper()
	service := l.MakeCgroup("a.service")
	l.Interfaces(pinned + byPacket + "\tmultihomed-cgroup " + service + "\n")
	return service
}

// wantService asks from a cgroup, by UDP and TCP.
func wantService(t *testing.T, l *lab.Lab, cgroup, far, seen string) {
	t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		if got := l.Ask(lab.Query{Network: network, Far: far, Cgroup: cgroup}); got != seen {
			t.Errorf("%s to %s from cgroup %s: far saw %q, want %q", network, far, cgroup, got, seen)
		}
	}
}

// wantCutOff asks from a cgroup, which must not reach far.
func wantCutOff(t *testing.T, l *lab.Lab, cgroup, far string) {
	t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		if got := l.Ask(lab.Query{Network: network, Far: far, Cgroup: cgroup}); !strings.HasPrefix(got, "error: ") {
			t.Errorf("%s to %s from cgroup %s: far saw %q, want nothing", network, far, cgroup, got)
		}
	}
}

// TestServiceLeavesByItsUplink runs with each rp_filter, on all and on the
// uplink alone. Only what marks packets needs src_valid_mark, where that is strict;
// to sockets it is one thing whichever of the two files is.
func TestServiceLeavesByItsUplink(t *testing.T) {
	for _, f := range []struct {
		all, uplink int
		ways        []string
	}{{0, 0, ways}, {1, 1, ways}, {2, 2, ways[1:]}, {0, 1, ways[1:]}, {1, 0, ways[1:]}, {0, 2, ways[1:]}, {1, 2, ways[1:]}} {
		for _, way := range f.ways {
			t.Run(fmt.Sprintf("%s all %d uplink %d", way, f.all, f.uplink), func(t *testing.T) { leavesByItsUplink(t, newCaseLab(t, way), f.all, f.uplink) })
		}
	}
}

func leavesByItsUplink(t *testing.T, l *caseLab, all, uplink int) {
	t.Helper()
	l.Script(fmt.Sprintf("sysctl -qw net.ipv4.conf.all.rp_filter=%d net.ipv4.conf.up2.rp_filter=%d", all, uplink))
	l.MustMH("sync")
	noDrift(t, l.Lab)
	wantService(t, l.Lab, l.service, lab.Far4, two4)
	wantService(t, l.Lab, l.service, lab.Far6, two6)
	l.WantSeen(lab.Far4, "", 0, one4)
	l.WantSeen(lab.Far6, "", 0, one6)
	strict := max(all, uplink) == 1 && !l.bySocket()
	for device, want := range map[string]bool{"up2": strict, "up1": false, "all": false} {
		if got := l.Run("sysctl", "-n", "net.ipv4.conf."+device+".src_valid_mark"); (got == "1\n") != want {
			t.Errorf("src_valid_mark of %s is %q", device, got)
		}
	}
	l.MustMH("down")
	if got := l.Run("sysctl", "-n", "net.ipv4.conf.up2.src_valid_mark"); got != "0\n" {
		t.Errorf("down left src_valid_mark at %q", got)
	}
	wantNone(t, "tables", l.Run("nft", "list", "tables"), "wg_multihome")
	noSpoof(t, l.Lab)
}

// TestServiceWithoutItsUplink cuts the service off, at once and not by another
// uplink, and brings it back.
func TestServiceWithoutItsUplink(t *testing.T) {
	eachWay(t, func(t *testing.T, c *caseLab) {
		l, service := c.Lab, c.service
		l.Run("ip", "link", "set", "up2", "down")
		l.MustMH("sync")
		for _, far := range []string{lab.Far4, lab.Far6} {
			wantCutOff(t, l, service, far)
			if got := l.Ask(lab.Query{Network: "tcp", Far: far, Cgroup: service}); !strings.Contains(got, c.of("unreachable", "refused")) {
				t.Errorf("a TCP connection does not fail at once: %q", got)
			}
		}
		l.Script(`ip link set up2 up; ip -6 addr add 2001:db8:2::10/64 dev up2 nodad
ip route replace default via 198.51.100.1 dev up2 metric 2; ip route replace default via 2001:db8:2::1 dev up2 metric 2`)
		l.MustMH("sync")
		wantService(t, l, service, lab.Far4, two4)
		wantService(t, l, service, lab.Far6, two6)
		noSpoof(t, l)
	})
}

// TestStatusOfServices shows each service, whether its cgroup is there, and
// whether that one is pinned.
func TestStatusOfServices(t *testing.T) {
	l := newLab(t)
	l.Static()
	service := l.MakeCgroup("a.service")
	absent := l.Slice() + "/absent.service"
	l.Interfaces(pinned + byPacket + "\tmultihomed-cgroup " + service + " " + absent + "\n")
	line := func(cgroup string) string {
		t.Helper()
		for _, line := range strings.Split(l.MustMH("status").Stdout, "\n") {
			if strings.HasPrefix(line, cgroup+" ") {
				return strings.Join(strings.Fields(line)[1:], " ")
			}
		}
		t.Fatalf("no line for %s", cgroup)
		return ""
	}
	wantEqual(t, "before sync", line(service), "up2 0x2005 NOT PINNED")
	wantPart(t, "plan", l.MustMH("plan").Stdout, "+ nft element paths_0x2005 "+service+"\n")
	l.MustMH("sync")
	wantEqual(t, "after sync", line(service), "up2 0x2005 pinned")
	wantEqual(t, "absent", line(absent), "up2 0x2005 (absent)")
	// Made anew, as by a restart: the id is another one, which is drift.
	l.RemoveCgroup("a.service")
	l.MakeCgroup("a.service")
	wantEqual(t, "after a restart", line(service), "up2 0x2005 NOT PINNED")
	wantCode(t, l.MH("status", "--exit-code"), 3)
	l.MustMH("sync")
	wantEqual(t, "after another sync", line(service), "up2 0x2005 pinned")
	noDrift(t, l)
}
