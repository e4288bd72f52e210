package e2e

import (
	"fmt"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// serviceFlows are those of a service that is pinned to up2. Main's default
// leads by up1, so an unbound socket has a source of up1's first. They are known
// by the length of their datagrams: NAT may choose another port when a mark is
// another one.
var serviceFlows = []struct {
	name  string
	match string
	flow  lab.Flow
}{
	{"bound4", "udp length 19", lab.Flow{Network: "udp", To: lab.Far4, Source: two4, Size: 11}},
	{"bound6", "udp length 20", lab.Flow{Network: "udp", To: lab.Far6, Source: two6, Connected: true, Size: 12}},
	{"unbound4", "udp length 21", lab.Flow{Network: "udp", To: lab.Far4, Size: 13}},
	{"unbound6", "udp length 22", lab.Flow{Network: "udp", To: lab.Far6, Size: 14}},
	{"connected4", "udp length 23", lab.Flow{Network: "udp", To: lab.Far4, Connected: true, Size: 15}},
	{"stream4", "meta nfproto ipv4 tcp dport 8", lab.Flow{Network: "tcp", To: lab.Far4, Port: 8}},
	{"stream6", "meta nfproto ipv6 tcp dport 8", lab.Flow{Network: "tcp", To: lab.Far6, Port: 8, Source: two6}},
}

// everything is all of them.
const everything = "meta l4proto { tcp, udp } th dport { 7, 8 }"

// startService has the flows of a service run through a course, in which the
// service is up2's all the time.
func startService(t *testing.T, l *lab.Lab, course string) *course {
	t.Helper()
	service := l.MakeCgroup("a.service")
	return startFlows(t, l, course, fmt.Sprintf("marking = \"packet\"\ncgroups = [%q]", service), func(f *lab.Flow) { f.Cgroup = service })
}

// startFlows does so with what the file says of the service, and has the flows
// be the service's.
func startFlows(t *testing.T, l *lab.Lab, course, pinning string, pin func(*lab.Flow)) *course {
	t.Helper()
	l.Static()
	at := map[string]int{"all": 2}
	for _, f := range serviceFlows {
		at[f.name] = 2
	}
	c := newCourse()
	for _, text := range serviceEdits[course] {
		c.edits = append(c.edits, edit{strings.ReplaceAll(text, pinsService, pinning), at})
	}
	c.startAll(t, l, pin, nil)
	return c
}

// startAll starts the flows, but for some.
func (c *course) startAll(t *testing.T, l *lab.Lab, pin func(*lab.Flow), without map[string]bool) {
	t.Helper()
	for _, far := range []string{lab.Far4, lab.Far6} {
		l.ChatServer(l.Far, "", far)
	}
	c.start(t, l, []*lab.Namespace{l.ISP1, l.ISP2}, func() (all []traffic) {
		for _, f := range serviceFlows {
			if without[f.name] {
				continue
			}
			pin(&f.flow)
			stop := l.Flow(f.flow)
			t.Cleanup(func() { stop() })
			all = append(all, traffic{f.name, f.match, f.match, f.flow.Network == "tcp"})
		}
		if without == nil {
			all = append(all, traffic{"all", everything, everything, false})
		}
		return all
	})
}

// pinsService stands for what the file says of the service.
const pinsService = "# the service"

// serviceEdits exchange the marks, or change the mask.
var serviceEdits = map[string][]string{
	"two swap": {
		up(1, "0x100") + up(2, "0x200", pinsService),
		up(1, "0x200") + up(2, "0x100", pinsService),
	},
	"one goes and a new one comes": {
		up(1, "0x100") + up(2, "0x200", pinsService),
		up(1, "0x200") + up(2, "0x300", pinsService),
		up(1, "0x100") + up(2, "0x300", pinsService),
	},
	"one comes back elsewhere": {
		up(1, "0x100") + up(2, "0x300", pinsService),
		up(1, "0x100") + up(2, "0x200", pinsService),
		up(1, "0x300") + up(2, "0x200", pinsService),
		up(1, "0x300") + up(2, "0x100", pinsService),
		up(1, "0x200") + up(2, "0x100", pinsService),
	},
	"a mask comes and goes": {
		up(1, "0x100") + up(2, "0x200", pinsService),
		up(1, "0x100") + up(2, `"0x200/0xff00"`, pinsService),
	},
}

// TestMovesOfMarksWithServices edits the configuration while flows of a service
// run, bound to the uplink's address and not: none leaves by the other uplink.
func TestMovesOfMarksWithServices(t *testing.T) {
	for name := range serviceEdits {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			c := startService(t, l, name)
			c.goThrough(lab.Rounds(8))
			noSpoof(t, l)
			c.countsWrong()
		})
	}
}
