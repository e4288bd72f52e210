package e2e

import (
	"fmt"
	"testing"

	"wg-multihome/test/lab"
)

// tunnel makes device wgN of both ends, its outer packets of the family of the
// endpoint. On the host it has its mark from the start.
func tunnel(t *testing.T, l *lab.Lab, number int, endpoint string, mark uint32) traffic {
	t.Helper()
	own, peer := newKey(t), newKey(t)
	ownPublic, peerPublic := own.PublicKey(), peer.PublicKey()
	name := fmt.Sprintf("wg%d", number)
	l.Tunnel(l.Far, name, fmt.Sprintf("private_key=%x\nlisten_port=%d\npublic_key=%x\nallowed_ip=10.20%d.0.1/32", peer[:], 51820+number, ownPublic[:], number))
	l.Far.Script(fmt.Sprintf("ip addr add 10.20%d.0.2/24 dev %s; ip link set %[2]s up", number, name))
	l.Tunnel(l.Namespace, name, fmt.Sprintf("private_key=%x\nfwmark=%d\npublic_key=%x\nendpoint=%s:%d\nallowed_ip=10.20%d.0.0/24", own[:], mark, peerPublic[:], endpoint, 51820+number, number))
	l.Script(fmt.Sprintf("ip addr add 10.20%d.0.1/24 dev %s; ip link set %[2]s up", number, name))
	stop := l.Flow(lab.Flow{Network: "udp", To: fmt.Sprintf("10.20%d.0.2", number), Port: 9})
	t.Cleanup(func() { stop() })
	return traffic{name, fmt.Sprintf("udp dport %d", 51820+number), "oifname " + name + " udp dport 9", false}
}

// The tunnels of the courses, each with what the file says of it.
const (
	wg0 = `wireguard = ["wg0"]`
	wg1 = `wireguard = ["wg1"]`
)

// tunnelCourse is a way in which marks of uplinks with tunnels move.
type tunnelCourse struct {
	uplinks int
	tunnels []string // endpoints, of wg0 and so on; they have mark 0x200, 0x100 first
	edits   []edit
}

// Where the tunnels belong all the time, in most courses.
var (
	oneTunnel   = map[string]int{"wg0": 2}
	bothTunnels = map[string]int{"wg0": 2, "wg1": 1}
)

var tunnelCourses = map[string]tunnelCourse{
	"two swap": {2, []string{lab.Far4}, []edit{
		{up(1, "0x100") + up(2, "0x200", wg0), oneTunnel},
		{up(1, "0x200") + up(2, "0x100", wg0), oneTunnel},
	}},
	"two swap and each has a tunnel": {2, []string{lab.Far4, "[" + lab.Far6 + "]"}, []edit{
		{up(1, "0x100", wg1) + up(2, "0x200", wg0), bothTunnels},
		{up(1, "0x200", wg1) + up(2, "0x100", wg0), bothTunnels},
	}},
	"three pass theirs round": {3, []string{lab.Far4}, []edit{
		{up(1, "0x100") + up(2, "0x200", wg0) + up(3, "0x300"), oneTunnel},
		{up(1, "0x200") + up(2, "0x300", wg0) + up(3, "0x100"), oneTunnel},
		{up(1, "0x300") + up(2, "0x100", wg0) + up(3, "0x200"), oneTunnel},
	}},
	"one goes and a new one comes": {2, []string{lab.Far4}, []edit{
		{up(1, "0x100") + up(2, "0x200", wg0), oneTunnel},
		{up(1, "0x200") + up(2, "0x300", wg0), oneTunnel},
		{up(1, "0x100") + up(2, "0x300", wg0), oneTunnel},
	}},
	"one goes to an uplink without": {2, []string{"[" + lab.Far6 + "]"}, []edit{
		{up(2, "0x200", wg0), oneTunnel},
		{up(1, "0x200") + up(2, "0x300", wg0), oneTunnel},
	}},
	"devices change places": {2, []string{lab.Far4, lab.Far4}, []edit{
		{up(1, "0x100", wg1) + up(2, "0x200", wg0), bothTunnels},
		{up(1, "0x200", wg0) + up(2, "0x100", wg1), map[string]int{"wg0": 1, "wg1": 2}},
		{up(1, "0x100", wg0) + up(2, "0x200", wg1), map[string]int{"wg0": 1, "wg1": 2}},
	}},
	"two swap under a mask": {2, []string{lab.Far4}, []edit{
		{up(1, `"0x100/0xff00"`) + up(2, `"0x200/0xff00"`, wg0), oneTunnel},
		{up(1, `"0x200/0xff00"`) + up(2, `"0x100/0xff00"`, wg0), oneTunnel},
	}},
	"the number that goes matches another one's mask": {2, []string{lab.Far4}, []edit{
		{up(1, "0x100") + up(2, "0x200", wg0), oneTunnel},
		{up(1, `"0x200/0xf00"`) + up(2, "0x300", wg0), oneTunnel},
	}},
	"a device moves while three pass theirs round": {3, []string{lab.Far4}, []edit{
		{up(1, "0x100") + up(2, "0x200", wg0) + up(3, "0x300"), oneTunnel},
		{up(1, "0x200") + up(2, "0x300") + up(3, "0x100", wg0), map[string]int{"wg0": 3}},
		{up(1, "0x300") + up(2, "0x100", wg0) + up(3, "0x200"), oneTunnel},
		{up(1, "0x100") + up(2, "0x200") + up(3, "0x300", wg0), map[string]int{"wg0": 3}},
	}},
}

func startTunnels(t *testing.T, l *lab.Lab, k tunnelCourse) *course {
	t.Helper()
	l.Static()
	isps := []*lab.Namespace{l.ISP1, l.ISP2}
	if k.uplinks == 3 {
		isps = append(isps, l.Third())
	}
	c := newCourse(k.edits...)
	c.start(t, l, isps, func() (all []traffic) {
		for number, endpoint := range k.tunnels {
			all = append(all, tunnel(t, l, number, endpoint, []uint32{0x200, 0x100}[number]))
		}
		return all
	})
	for _, f := range c.traffics {
		c.watched[f.name] = watchMark(t, l, f.name)
	}
	return c
}

// TestMovesOfMarksWithTunnels edits the configuration under the traffic of
// tunnels: no packet of a tunnel leaves by an uplink that it belongs to neither
// before nor after, and no device is without a mark at any time.
func TestMovesOfMarksWithTunnels(t *testing.T) {
	goThroughAll(t, tunnelCourses)
}

func goThroughAll(t *testing.T, courses map[string]tunnelCourse) {
	t.Helper()
	for name, k := range courses {
		t.Run(name, func(t *testing.T) {
			c := startTunnels(t, newLab(t), k)
			c.goThrough(lab.Rounds(8))
			c.countsWrong()
		})
	}
}
