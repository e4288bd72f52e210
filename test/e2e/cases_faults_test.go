package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// TestCaseNoDefaultInMain: a marked socket needs no route of main's, a packet is
// marked too late.
func TestCaseNoDefaultInMain(t *testing.T) {
	eachWay(t, func(t *testing.T, c *caseLab) {
		c.pin("\tmultihomed-gateway 198.51.100.1 2001:db8:2::1\n")
		c.Script("ip route flush exact default; ip -6 route flush exact default")
		c.MustMH("sync")
		for _, f := range families {
			c.want("without a default", lab.Probe{To: f.far, Cgroup: c.service}, c.of(f.ours, unreachable), "tcp", "udp", "udp connected")
		}
		noSpoof(t, c.Lab)
	})
}

// TestCaseLostUplink: a connection fails at once.
func TestCaseLostUplink(t *testing.T) {
	eachWay(t, func(t *testing.T, c *caseLab) {
		c.MustMH("sync")
		beside := c.beside()
		lost := func(when string) {
			t.Helper()
			for _, f := range families {
				c.want(when, lab.Probe{To: f.far, Cgroup: c.service}, "!", "tcp", "mptcp", "udp", "udp connected")
			}
		}
		c.Run("ip", "link", "set", "up2", "down")
		lost("lost")
		c.MustMH("sync")
		lost("lost, after sync")
		for _, f := range families {
			c.want("lost, after sync", lab.Probe{To: f.far, Cgroup: c.service}, c.of(unreachable, refusal), "tcp")
		}
		if n := beside(); n != 0 {
			t.Errorf("%d packets left by the other uplink", n)
		}
	})
}

// TestCaseStrictFilter: where rp_filter is strict, a mark of packets needs
// src_valid_mark on the uplink, which sync sets; one of sockets does not.
func TestCaseStrictFilter(t *testing.T) {
	eachWay(t, func(t *testing.T, c *caseLab) {
		c.Script("for d in all default up1 up2; do sysctl -qw net.ipv4.conf.$d.rp_filter=1; done")
		c.MustMH("sync")
		c.want("strict", lab.Probe{To: lab.Far4, Cgroup: c.service}, two4, "tcp", "udp", "udp connected")
		wantEqual(t, "src_valid_mark", c.Run("sysctl", "-n", "net.ipv4.conf.up2.src_valid_mark"), c.of("0\n", "1\n"))
		noSpoof(t, c.Lab)
	})
}

// TestCaseFlush flushes nftables five times under load, with a sync some time after
// each. Marked sockets do not notice; unmarked packets leave by main until the sync.
func TestCaseFlush(t *testing.T) {
	eachWay(t, func(t *testing.T, c *caseLab) {
		c.MustMH("sync")
		load := newLoad(c)
		for range 5 {
			c.Run("nft", "flush", "ruleset")
			load.goesOn()
			c.MustMH("sync")
			load.goesOn()
		}
		load.ends(func(beside, ours int) {
			t.Logf("%d datagrams by the uplink, %d by the other", ours, beside)
			if c.bySocket() && beside != 0 {
				t.Errorf("%d datagrams left by the other uplink", beside)
			}
			if !c.bySocket() && beside == 0 {
				t.Error("marks of packets outlived a flush: the topic services says otherwise")
			}
		})
	})
}

// TestCaseSharedPort: 10,000 new sockets of the service, to a port that another
// process asks from the same ports. Conntrack takes a connection of the service for
// one of those that it remembers: the topic services names that limit of packets.
func TestCaseSharedPort(t *testing.T) {
	eachWay(t, func(t *testing.T, c *caseLab) {
		// So that most of the ports have been used by the other one.
		c.Script("sysctl -qw net.ipv4.ip_local_port_range='20000 20999'")
		c.MustMH("sync")
		const sockets = 10000
		for _, f := range families {
			c.Cost(lab.Cost{What: "new", To: f.far, Port: 9, Count: sockets / 4})
			one := counting(t, c.ISP1, "prerouting priority -300", "iifname home udp dport 9")
			two := counting(t, c.ISP2, "prerouting priority -300", "iifname home udp dport 9")
			c.Cost(lab.Cost{What: "new", To: f.far, Port: 9, Count: sockets, Cgroup: c.service})
			lab.Until(t, "all datagrams are there", func() bool { return one()+two() >= sockets })
			beside := one()
			t.Logf("%s: %d of %d by the other uplink", f.far, beside, sockets)
			if c.bySocket() && beside != 0 {
				t.Errorf("%s: %d of %d left by the other uplink", f.far, beside, sockets)
			}
			if !c.bySocket() && beside == 0 {
				t.Errorf("%s: nothing was remembered: nothing was proved", f.far)
			}
		}
	})
}

// TestCaseMSS: the first segments fit the uplink.
func TestCaseMSS(t *testing.T) {
	eachWay(t, func(t *testing.T, c *caseLab) {
		c.Script("ip link set up2 mtu 1400")
		c.ISP2.Script("ip link set home mtu 1400")
		c.MustMH("sync")
		for _, f := range families {
			// 12 bytes of each segment are TCP's time stamps.
			header := map[int]int{4: 20 + 20 + 12, 6: 40 + 20 + 12}[f.number]
			got, err := strconv.Atoi(c.Probe(lab.Probe{To: f.far, Cgroup: c.service}, "mss")["mss"])
			if err != nil {
				t.Fatal(err)
			}
			if want := 1400 - header; got != want {
				t.Errorf("to %s: segments of %d bytes, want %d", f.far, got, want)
			}
		}
	})
}

// TestCaseRenumbering: a connected UDP socket has the old address for its life; by
// packet it is translated to the new one.
func TestCaseRenumbering(t *testing.T) {
	eachWay(t, func(t *testing.T, c *caseLab) {
		const new4, new6 = "198.51.100.20", "2001:db8:2::20"
		c.MustMH("sync")
		flows := talks(c.Lab, c.service)
		wantSaid(t, "begun", flows, two4, two6)
		c.Script(`ip addr add ` + new4 + `/24 dev up2; ip addr add ` + new6 + `/64 dev up2 nodad
ip addr del ` + two4 + `/24 dev up2; ip addr del ` + two6 + `/64 dev up2
ip route replace default via 198.51.100.1 dev up2 metric 2; ip route replace default via 2001:db8:2::1 dev up2 metric 2`)
		c.MustMH("sync")
		beside := c.beside()
		for i, seen := range []string{new4, new6} {
			got := flows[i].Say()
			if c.bySocket() && !strings.HasPrefix(got, "error: ") || !c.bySocket() && got != seen {
				t.Errorf("a connected socket: far saw %q", got)
			}
			c.want("opened anew", lab.Probe{To: []string{lab.Far4, lab.Far6}[i], Cgroup: c.service}, seen, "tcp", "udp", "udp connected")
		}
		if n := beside(); n != 0 {
			t.Errorf("%d packets left by the other uplink", n)
		}
		noSpoof(t, c.Lab)
	})
}

// TestCaseMulticast: where no interface is named, groups and the broadcast address are
// sent by main's default, or by a marked socket's uplink.
func TestCaseMulticast(t *testing.T) {
	eachWay(t, func(t *testing.T, c *caseLab) {
		c.MustMH("sync")
		for _, to := range []string{"224.0.0.251", "239.1.1.1", "255.255.255.255"} {
			one := counting(t, c.ISP1, "prerouting priority -300", "iifname home udp dport 9 ip daddr "+to)
			two := counting(t, c.ISP2, "prerouting priority -300", "iifname home udp dport 9 ip daddr "+to)
			if n := c.Send(lab.Sender{To: to, Cgroup: c.service}, 3); n != 3 {
				t.Errorf("%s: %d of 3 left", to, n)
			}
			lab.Until(t, "all are there", func() bool { return one()+two() >= 3 })
			if got := fmt.Sprint(one(), two()); got != c.of("0 3", "3 0") {
				t.Errorf("%s: by either uplink: %s", to, got)
			}
		}
	})
}

// TestCaseMaskedMark: a program that sets a mark of its own, without our bits, has its
// socket's mark count; one that adds its bits stays pinned. By packet ours are added.
func TestCaseMaskedMark(t *testing.T) {
	eachWay(t, func(t *testing.T, c *caseLab) {
		c.Interfaces("")
		file := c.TOML(fmt.Sprintf("marking = %q\n[uplink.up2]\nfwmark = \"0x2000/0xff00\"\ncgroups = [%q]\n", c.way, c.service))
		c.MustMH("sync", "--config", file)
		for _, f := range families {
			p := lab.Probe{To: f.far, Cgroup: c.service, Mark: 0x40000}
			c.want("its own mark", p, c.of(f.others, f.ours), "udp")
			c.want("its own mark", p, f.ours, "tcp", "udp connected")
			p.Adds = true
			c.want("its bits added", p, f.ours, "tcp", "udp", "udp connected")
		}
		noSpoof(t, c.Lab)
	})
}

// load is what a service sends to port 9 of far: datagrams of a socket each 20, of
// both families.
type load struct {
	c        *caseLab
	stops    []func() int
	one, two func() int
}

func newLoad(c *caseLab) *load {
	c.t.Helper()
	l := &load{c: c, one: counting(c.t, c.ISP1, "prerouting priority -300", "iifname home udp dport 9"), two: counting(c.t, c.ISP2, "prerouting priority -300", "iifname home udp dport 9")}
	for _, f := range families {
		l.stops = append(l.stops, c.FloodFrom(c.service, f.far, 0))
	}
	l.goesOn()
	return l
}

// goesOn waits until some thousand more have come to either ISP.
func (l *load) goesOn() {
	l.c.t.Helper()
	before := l.one() + l.two()
	lab.Until(l.c.t, "datagrams come", func() bool { return l.one()+l.two() > before+2000 })
}

// ends stops it, and tells how many came to the other ISP, and to the uplink's.
func (l *load) ends(tell func(beside, ours int)) {
	l.c.t.Helper()
	for _, stop := range l.stops {
		stop()
	}
	tell(l.one(), l.two())
}
