package e2e

import (
	"fmt"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// TestSocketsToPackets: what a service has sent while its sockets were marked is known
// to conntrack without a mark. When its packets are marked instead, what it sends on by
// the same socket is: once the uplink is lost it does not leave by the other one with
// the lost one's address.
func TestSocketsToPackets(t *testing.T) {
	for _, listed := range []string{socketService, "test.slice"} {
		t.Run(listed, func(t *testing.T) {
			l, _ := socketLab(t)
			sync := func(way string) {
				l.Interfaces(pinned + way + "\tmultihomed-cgroup " + listed + "\n")
				l.MustMH("sync")
			}
			sync("")
			one, two := by(t, l.ISP1, "udp length 19"), by(t, l.ISP2, "udp length 19")
			defer l.Flow(lab.Flow{Network: "udp", To: lab.Far4, Source: two4, Size: 11, Cgroup: socketService})()
			lab.Until(t, "it sends", func() bool { return two() > 20 })
			sync(byPacket)
			before := two()
			lab.Until(t, "it sends on", func() bool { return two() > before+20 })
			l.Run("ip", "link", "set", "up2", "down")
			l.MustMH("sync")
			l.WantSeen(lab.Far4, "", 0, one4)
			if n := one(); n != 0 {
				t.Errorf("%d datagrams left by the other uplink", n)
			}
			noDrift(t, l)
		})
	}
}

// connectedFlows are of a service: its sockets are connected, and have the source that
// main's default gave them, or the uplink's own.
var connectedFlows = []struct {
	lab.Flow
	own bool
}{
	{lab.Flow{To: lab.Far4, Size: 21}, false}, {lab.Flow{To: lab.Far4, Size: 22, Source: two4}, true},
	{lab.Flow{To: lab.Far6, Size: 23}, false}, {lab.Flow{To: lab.Far6, Size: 24, Source: two6}, true},
}

// begin has the service begin connectedFlows, and talk by TCP to both far addresses. It
// returns what counts each flow's packets at both ISPs, and TCP's at the first, and the
// talks by address.
func begin(t *testing.T, l *lab.Lab) (one, two []func() int, chats map[string]*lab.Chat) {
	t.Helper()
	for _, f := range connectedFlows {
		f.Network, f.Connected, f.Cgroup = "udp", true, socketService
		length := fmt.Sprintf("udp length %d", 8+f.Size)
		one, two = append(one, by(t, l.ISP1, length)), append(two, by(t, l.ISP2, length))
		l.Flow(f.Flow)
	}
	chats = map[string]*lab.Chat{}
	for _, far := range []string{lab.Far4, lab.Far6} {
		l.ChatServer(l.Far, "", far)
		chats[far] = l.Chat(l.Namespace, socketService, far)
		wantEqual(t, "tcp to "+far, chats[far].Say("begun"), "begun")
	}
	return append(one, by(t, l.ISP1, "tcp dport 8")), two, chats
}

// TestPacketsToSockets: what a service has begun while its packets were marked is pinned
// by what conntrack remembers. When its sockets are marked instead, that is so once
// conntrack has forgotten it, too.
func TestPacketsToSockets(t *testing.T) {
	for name, lost := range map[string]bool{"forgotten": false, "forgotten and lost": true} {
		t.Run(name, func(t *testing.T) {
			l, _ := socketLab(t)
			service := "\tmultihomed-cgroup " + socketService + "\n"
			l.Interfaces(pinned + byPacket + service)
			l.MustMH("sync")
			one, two, chats := begin(t, l)
			goesOn := func(what string, ownAlone bool) {
				t.Helper()
				for i, f := range connectedFlows {
					before := two[i]()
					if f.own || !ownAlone {
						lab.Until(t, what, func() bool { return two[i]() > before+20 })
					}
				}
			}
			goesOn("it sends", false)
			l.Interfaces(pinned + service)
			l.MustMH("sync")
			wantEqual(t, "after", howServed(t, l, socketService), "up2 0x2005 pinned by socket")
			goesOn("it sends on", false)
			for far, c := range chats {
				wantEqual(t, "tcp to "+far, c.Say("more"), "more")
			}
			if lost {
				l.Run("ip", "link", "set", "up2", "down")
				l.MustMH("sync")
			}
			l.ForgetConnections()
			dropped := counter(t, l.Namespace, "wg_multihome", "lock_0x2005")
			if lost {
				l.WantSeen(lab.Far4, "", 0, one4)
				l.WantSeen(lab.Far6, "", 0, one6)
			} else {
				goesOn("its own address goes on", true)
				lab.Until(t, "the other uplink's address is dropped", func() bool {
					return counter(t, l.Namespace, "wg_multihome", "lock_0x2005") > dropped+20
				})
			}
			for far, c := range chats {
				if got := c.Say("forgotten"); !strings.HasPrefix(got, "error: ") {
					t.Errorf("tcp to %s: %q", far, got)
				}
			}
			l.MustMH("sync")
			for i := range one {
				if n := one[i](); n != 0 {
					t.Errorf("%d packets of flow %d left by the other uplink", n, i)
				}
			}
			noPart(t, l)
			noDrift(t, l)
			noSpoof(t, l)
		})
	}
}

// TestPacketsToSocketsForgotten: what conntrack had forgotten before the change would
// have been marked with its next packet. What a server has accepted is answered by the
// uplink that it came by.
func TestPacketsToSocketsForgotten(t *testing.T) {
	l, _ := socketLab(t)
	service := "\tmultihomed-cgroup " + socketService + "\n"
	l.Interfaces(pinned + byPacket + service)
	l.MustMH("sync")
	one := by(t, l.ISP1, "udp dport 7")
	begun := talks(l, socketService)
	wantSaid(t, "begun", begun, two4, two6)
	var bound []*lab.Talk
	for far, source := range map[string]string{lab.Far4: two4, lab.Far6: two6} {
		talk := l.Talk(lab.Query{Far: far, Source: source, Cgroup: socketService})
		wantSaid(t, "bound", []*lab.Talk{talk}, source)
		bound = append(bound, talk)
	}
	var served []*lab.Chat
	for _, asked := range []string{one4, one6} {
		l.ChatServer(l.Namespace, socketService, asked)
		c := l.Chat(l.Far, "", asked)
		wantEqual(t, "begun at "+asked, c.Say("begun"), "begun")
		served = append(served, c)
	}
	l.ForgetConnections()
	l.Interfaces(pinned + service)
	l.MustMH("sync")
	for _, talk := range begun {
		if got := talk.Say(); !strings.HasPrefix(got, "error: ") {
			t.Errorf("forgotten: far saw %q", got)
		}
	}
	for _, talk := range bound {
		if got := talk.Say(); got != two4 && got != two6 {
			t.Errorf("forgotten, with the uplink's own address: far saw %q", got)
		}
	}
	for _, c := range served {
		wantEqual(t, "accepted", c.Say("more"), "more")
	}
	if n := one(); n != 0 {
		t.Errorf("%d datagrams left by the other uplink", n)
	}
	noDrift(t, l)
	noSpoof(t, l)
}

// TestPacketsToSocketsOlder: what is older than the pin keeps its uplink, by packet and
// then by socket.
func TestPacketsToSocketsOlder(t *testing.T) {
	l, cgroups := socketLab(t)
	const other = "test.slice/b.service"
	cgroups.Make(other)
	sync := func(options string) {
		t.Helper()
		l.Interfaces(pinned + options)
		l.MustMH("sync")
	}
	sync(byPacket + "\tmultihomed-cgroup " + other + "\n")
	older := talks(l, socketService)
	wantSaid(t, "begun unpinned", older, one4, one6)
	l.ChatServer(l.Far, "", lab.Far4)
	chat := l.Chat(l.Namespace, socketService, lab.Far4)
	wantEqual(t, "begun unpinned", chat.Say("begun"), "begun")
	sync(byPacket + "\tmultihomed-cgroup " + socketService + "\n")
	wantSaid(t, "by packet", older, one4, one6)
	sync("\tmultihomed-cgroup " + socketService + "\n")
	wantSaid(t, "by socket", older, one4, one6)
	wantEqual(t, "by socket", chat.Say("more"), "more")
	wantPinned(t, l)
	noDrift(t, l)
	noSpoof(t, l)
}
