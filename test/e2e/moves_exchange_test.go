package e2e

import (
	"fmt"
	"testing"

	"wg-multihome/test/lab"
)

// otherFlows are those of a second service, of up1, beside the flows of up2's.
var otherFlows = []struct {
	name  string
	match string
	flow  lab.Flow
}{
	{"others4", "udp length 32", lab.Flow{Network: "udp", To: lab.Far4, Size: 24}},
	{"others6", "udp length 33", lab.Flow{Network: "udp", To: lab.Far6, Connected: true, Size: 25}},
	{"others_bound4", "udp length 34", lab.Flow{Network: "udp", To: lab.Far4, Source: one4, Size: 26}},
	{"others_stream6", "meta nfproto ipv6 tcp dport 7", lab.Flow{Network: "tcp", To: lab.Far6}},
}

// exchangeEdits have both uplinks exchange their marks while sockets have both, and
// by way of a third number, or mask.
var exchangeEdits = map[string][][2]string{
	"plain":       {{"0x100", "0x200"}, {"0x200", "0x100"}},
	"masked":      {{`"0x100/0xf00"`, `"0x200/0xf00"`}, {`"0x200/0xf00"`, `"0x100/0xf00"`}},
	"and a third": {{"0x100", "0x200"}, {"0x200", "0x100"}, {"0x300", `"0x200/0xff00"`}},
}

// exchangeCourse has the flows of two services that are marked by socket.
func exchangeCourse(t *testing.T, l *lab.Lab, name string) *course {
	t.Helper()
	l.Static()
	const other = "test.slice/b.service"
	l.Cgroups().Make(socketService)
	l.Cgroups().Make(other)
	at := map[string]int{}
	for _, f := range serviceFlows {
		at[f.name] = 2
	}
	for _, f := range otherFlows {
		at[f.name] = 1
	}
	c := newCourse()
	for _, marks := range exchangeEdits[name] {
		c.edits = append(c.edits, edit{
			up(1, marks[0], fmt.Sprintf("cgroups = [%q]", other)) + up(2, marks[1], fmt.Sprintf("cgroups = [%q]", socketService)), at,
		})
	}
	for _, far := range []string{lab.Far4, lab.Far6} {
		l.ChatServer(l.Far, "", far)
	}
	c.start(t, l, []*lab.Namespace{l.ISP1, l.ISP2}, func() (all []traffic) {
		begin := func(name, match, cgroup string, f lab.Flow) {
			f.Cgroup = cgroup
			stop := l.Flow(f)
			t.Cleanup(func() { stop() })
			all = append(all, traffic{name, match, match, f.Network == "tcp"})
		}
		for _, f := range serviceFlows {
			begin(f.name, f.match, socketService, f.flow)
		}
		for _, f := range otherFlows {
			begin(f.name, f.match, other, f.flow)
		}
		return all
	})
	return c
}

// TestMovesOfMarksInExchange has two uplinks exchange their marks while sockets of
// services of both run: none leaves by the other one's uplink, also where runs are
// killed, and each is back by its own.
func TestMovesOfMarksInExchange(t *testing.T) {
	for name := range exchangeEdits {
		wholeAndKilled(t, name, lab.Rounds(6), exchangeCourse)
	}
}

// wholeAndKilled goes through a course of sockets twice: with runs that come to their
// end, and with such as are killed. None of its packets leaves by the other uplink.
func wholeAndKilled(t *testing.T, name string, rounds int, begin func(*testing.T, *lab.Lab, string) *course) {
	t.Run(name, func(t *testing.T) {
		l := newLab(t)
		c := begin(t, l, name)
		c.goThrough(rounds)
		noSpoof(t, l)
		c.countsWrong()
	})
	t.Run("killed: "+name, func(t *testing.T) {
		c := begin(t, newLab(t), name)
		c.refused = true
		c.killThrough(trials(t))
		c.countsWrong()
	})
}
