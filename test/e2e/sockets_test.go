package e2e

import (
	"fmt"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

const (
	socketService = "test.slice/a.service"
	stateDir      = "/run/wg-multihome"
	byPacket      = "\tmultihomed-marking packet\n"
)

// socketLab is a lab with cgroups of its own, where a service is pinned to up2 by
// socket. Its cgroup is there.
func socketLab(t *testing.T) (*lab.Lab, lab.Cgroups) {
	t.Helper()
	l := newLab(t)
	l.Static()
	cgroups := l.Cgroups()
	cgroups.Make(socketService)
	l.Interfaces(pinned + "\tmultihomed-cgroup " + socketService + "\n")
	return l, cgroups
}

// howServed is what status says of a service.
func howServed(t *testing.T, l *lab.Lab, cgroup string) string {
	t.Helper()
	for _, line := range strings.Split(l.MustMH("status").Stdout, "\n") {
		if strings.HasPrefix(line, cgroup+" ") {
			return strings.Join(strings.Fields(line)[1:], " ")
		}
	}
	t.Fatalf("no line for %s", cgroup)
	return ""
}

// noPart fails the test if nftables has a part for services.
func noPart(t *testing.T, l *lab.Lab) {
	t.Helper()
	wantNone(t, "table", l.Run("nft", "list", "ruleset"), "socket cgroupv2")
	wantNone(t, "table", l.Run("nft", "list", "ruleset"), "ct mark")
}

// wantPinned asks by both families, from the service and from elsewhere.
func wantPinned(t *testing.T, l *lab.Lab) {
	t.Helper()
	wantService(t, l, socketService, lab.Far4, two4)
	wantService(t, l, socketService, lab.Far6, two6)
	l.WantSeen(lab.Far4, "", 0, one4)
	l.WantSeen(lab.Far6, "", 0, one6)
}

// TestSocketsOfAService pins a service by socket: it leaves by its uplink with that
// one's source, without a part of the table, also after a flush, with a strict
// rp_filter, and when its cgroup is another one.
func TestSocketsOfAService(t *testing.T) {
	l, cgroups := socketLab(t)
	l.Script("sysctl -qw net.ipv4.conf.all.rp_filter=1")
	line := "+ socket-mark " + socketService + " 0x2005\n"
	wantPart(t, "plan", l.MustMH("plan").Stdout, line)
	wantEqual(t, "before", howServed(t, l, socketService), "up2 0x2005 NOT PINNED by socket")
	wantPart(t, "sync", l.MustMH("sync").Stderr, strings.TrimSpace(line))
	noDrift(t, l)
	wantEqual(t, "after", howServed(t, l, socketService), "up2 0x2005 pinned by socket")
	wantPinned(t, l)
	noPart(t, l)
	l.Run("nft", "flush", "ruleset")
	wantPinned(t, l)
	l.MustMH("sync")
	noPart(t, l)
	// Made anew, as by a restart.
	cgroups.Remove(socketService)
	cgroups.Make(socketService)
	wantEqual(t, "after a restart", howServed(t, l, socketService), "up2 0x2005 NOT PINNED by socket")
	wantCode(t, l.MH("status", "--exit-code"), 3)
	l.MustMH("sync", "--hook")
	wantPinned(t, l)
	noDrift(t, l)
	noSpoof(t, l)
}

// TestSocketsWithoutTheirUplink cuts the service off at once, and brings it back.
func TestSocketsWithoutTheirUplink(t *testing.T) {
	l, _ := socketLab(t)
	l.MustMH("sync")
	l.Run("ip", "link", "set", "up2", "down")
	wantCutOff(t, l, socketService, lab.Far4)
	l.MustMH("sync")
	wantCutOff(t, l, socketService, lab.Far4)
	wantCutOff(t, l, socketService, lab.Far6)
	l.Script(`ip link set up2 up; ip -6 addr add 2001:db8:2::10/64 dev up2 nodad
ip route replace default via 198.51.100.1 dev up2 metric 2; ip route replace default via 2001:db8:2::1 dev up2 metric 2`)
	l.MustMH("sync")
	wantPinned(t, l)
	noSpoof(t, l)
}

// TestSocketsGo unpins a service, by a person alone, and by down.
func TestSocketsGo(t *testing.T) {
	l, _ := socketLab(t)
	l.MustMH("sync")
	talk := l.Talk(lab.Query{Far: lab.Far4, Cgroup: socketService})
	wantEqual(t, "a socket that runs", talk.Say(), two4)
	notes := stateDir + "/sockets.json"
	wantPart(t, "notes", l.Read(notes), socketService)
	l.Interfaces(pinned)
	wantPart(t, "a hook", l.MustMH("sync", "--hook").Stderr, "configured no longer")
	wantPinned(t, l)
	wantPart(t, "sync", l.MustMH("sync").Stderr, "- socket-mark "+socketService+" 0x2005")
	wantService(t, l, socketService, lab.Far4, one4)
	wantEqual(t, "a connected socket that runs", talk.Say(), two4)
	wantNone(t, "notes", l.Read(notes), socketService)
	noDrift(t, l)
	l.Interfaces(pinned + "\tmultihomed-cgroup " + socketService + "\n")
	l.MustMH("sync")
	wantPinned(t, l)
	wantPart(t, "down", l.MustMH("down").Stderr, "- socket-mark "+socketService+" 0x2005")
	wantService(t, l, socketService, lab.Far4, one4)
	wantService(t, l, socketService, lab.Far6, one6)
	noSpoof(t, l)
}

// TestSocketsFound: programs whose notes are lost are found by a person's sync while
// some service is marked by socket.
func TestSocketsFound(t *testing.T) {
	l, cgroups := socketLab(t)
	l.MustMH("sync")
	l.Run("rm", "-r", stateDir)
	cgroups.Make("test.slice/b.service")
	l.Interfaces(pinned + "\tmultihomed-cgroup test.slice/b.service\n")
	wantPart(t, "sync", l.MustMH("sync").Stderr, "- socket-mark "+socketService+" 0x2005")
	wantService(t, l, socketService, lab.Far4, one4)
	wantService(t, l, "test.slice/b.service", lab.Far4, two4)
	noDrift(t, l)
}

// TestSocketsFoundWithoutNotes: the notes are lost, and no service is marked by socket any
// more. A person's commands look at every cgroup all the same, and find the programs.
func TestSocketsFoundWithoutNotes(t *testing.T) {
	for name, c := range map[string]struct{ config, command string }{
		"nothing is configured":          {"", "sync"},
		"all is marked by packet":        {pinned + byPacket, "sync"},
		"nothing is configured, by down": {"", "down"},
	} {
		t.Run(name, func(t *testing.T) {
			l, cgroups := socketLab(t)
			cgroups.Make("test.slice/b.service")
			l.MustMH("sync")
			l.Run("rm", "-r", stateDir)
			l.Interfaces(c.config)
			const line = "- socket-mark " + socketService + " 0x2005"
			r := l.MH("status", "--exit-code")
			wantCode(t, r, 3)
			wantPart(t, "status", r.Stdout, line)
			wantPart(t, c.command, l.MustMH(c.command).Stderr, line)
			if c.command == "sync" {
				wantCode(t, l.MHKilledByBPF("status", "--exit-code"), 0) // it does not look again
			}
			wantService(t, l, socketService, lab.Far4, one4)
		})
	}
}

// TestSocketsAndPackets changes the way, also where the run is killed: no packet of
// a service leaves by the other uplink, but for those of connections whose source
// was translated (they are left out).
func TestSocketsAndPackets(t *testing.T) {
	for name, through := range map[string]func(*course){
		"whole":  func(c *course) { c.goThrough(lab.Rounds(8)) },
		"killed": func(c *course) { c.killThrough(trials(c.t)) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Cgroups().Make(socketService)
			c := newCourse()
			at := map[string]int{}
			for _, f := range serviceFlows {
				if !translated[f.name] {
					at[f.name] = 2
				}
			}
			for _, way := range []string{"socket", "packet"} {
				lines := fmt.Sprintf("cgroups = [%q]\nmarking = %q", socketService, way)
				c.edits = append(c.edits, edit{up(1, "0x100") + up(2, "0x200", lines), at})
			}
			c.startAll(t, l, func(f *lab.Flow) { f.Cgroup = socketService }, translated)
			through(c)
			noSpoof(t, l)
			c.countsWrong()
		})
	}
}

// translated are the flows whose source is the other uplink's while packets are
// marked, and chosen once.
var translated = map[string]bool{"connected4": true, "stream4": true}

// TestSocketsOfRun: `run` attaches before the command starts, and needs no part of
// the table.
func TestSocketsOfRun(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Cgroups()
	l.Interfaces(pinned)
	command := []string{l.Binary, "run", "up2", "--"}
	for _, network := range []string{"udp", "tcp"} {
		for far, seen := range map[string]string{lab.Far4: two4, lab.Far6: two6} {
			if got := l.AskBy(command, lab.Query{Network: network, Far: far}); got != seen {
				t.Errorf("%s to %s: far saw %q, want %q", network, far, got, seen)
			}
		}
	}
	wantNone(t, "what the command saw", l.MustMH("run", "up2", "--", "nft", "list", "ruleset").Stdout, "socket cgroupv2")
	noDrift(t, l)
	noSpoof(t, l)
}

// socketCourse has the flows of a service that is marked by socket.
func socketCourse(t *testing.T, l *lab.Lab, course string) *course {
	t.Helper()
	l.Cgroups().Make(socketService)
	pinning := fmt.Sprintf("cgroups = [%q]\nmarking = \"socket\"", socketService)
	return startFlows(t, l, course, pinning, func(f *lab.Flow) { f.Cgroup = socketService })
}

// TestMovesOfMarksWithSockets edits the configuration while flows of a service run:
// none leaves by the other uplink, also where the run is killed.
func TestMovesOfMarksWithSockets(t *testing.T) {
	for name := range serviceEdits {
		wholeAndKilled(t, name, lab.Rounds(8), socketCourse)
	}
}

// TestSocketsNotAsked: where no service is marked by socket, and a person's run has seen
// that none was, there is no bpf(2).
func TestSocketsNotAsked(t *testing.T) {
	l := newLab(t)
	l.Static()
	pinnedService(t, l)
	wantCode(t, l.MHKilledByBPF("sync", "--hook"), 0)
	l.MustMH("sync")
	for _, args := range [][]string{{"sync"}, {"status"}, {"plan"}, {"sync", "--hook"}, {"down"}} {
		wantCode(t, l.MHKilledByBPF(args...), 0)
	}
	l.Interfaces(pinned + "\tmultihomed-cgroup test.slice/a.service\n")
	if r := l.MHKilledByBPF("plan"); r.Code == 0 {
		t.Error("a service is to be marked by socket, and bpf(2) was not called")
	}
}

// TestSocketsFromOtherAddresses: what is bound to the other uplink's address is
// dropped and counted, and what is bound to one that is no uplink's passes.
func TestSocketsFromOtherAddresses(t *testing.T) {
	l, _ := socketLab(t)
	l.MustMH("sync")
	for _, q := range []lab.Query{{Far: lab.Far4, Source: one4}, {Far: lab.Far6, Source: one6}} {
		q.Network, q.Cgroup = "udp", socketService
		if got := l.Ask(q); !strings.HasPrefix(got, "error: ") {
			t.Errorf("from %s: far saw %q", q.Source, got)
		}
	}
	for far, source := range map[string]string{lab.Far4: two4, lab.Far6: two6} {
		if got := l.Ask(lab.Query{Network: "udp", Far: far, Source: source, Cgroup: socketService}); got != source {
			t.Errorf("from %s: far saw %q", source, got)
		}
	}
	wantPart(t, "status", l.MustMH("status").Stdout, "SECOND LOCK")
	noSpoof(t, l)
}
