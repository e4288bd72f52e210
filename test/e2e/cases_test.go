package e2e

import (
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// ways are how packets of services get their mark: by their sockets, or by nftables.
var ways = []string{"socket", "packet"}

// eachWay runs a test for each of them, with a service of up2 in a lab of its own.
func eachWay(t *testing.T, test func(t *testing.T, c *caseLab)) {
	for _, way := range ways {
		t.Run(way, func(t *testing.T) { test(t, newCaseLab(t, way)) })
	}
}

// caseLab has a service that leaves by up2, while main's default leads by up1.
type caseLab struct {
	*lab.Lab
	t       *testing.T
	way     string
	service string
}

func newCaseLab(t *testing.T, way string) *caseLab {
	t.Helper()
	l := newLab(t)
	l.Static()
	c := &caseLab{Lab: l, t: t, way: way, service: l.MakeCgroup("a.service")}
	c.pin("")
	return c
}

// pin writes the configuration, with further options of up2.
func (c *caseLab) pin(options string) {
	c.t.Helper()
	c.Interfaces(pinned + "\tmultihomed-marking " + c.way + "\n\tmultihomed-cgroup " + c.service + "\n" + options)
}

// pins has both uplinks with their marks, and the cgroups that each is to carry. It
// returns the configuration's file.
func (c *caseLab) pins(up1, up2 []string) string {
	c.t.Helper()
	c.Interfaces("")
	return pinsBy(c.Lab, c.way, up1, up2)
}

// bySocket reports whether sockets are marked.
func (c *caseLab) bySocket() bool { return c.way == "socket" }

// of is what is right for the way of the two.
func (c *caseLab) of(socket, packet string) string {
	if c.bySocket() {
		return socket
	}
	return packet
}

// beside counts what comes to the other ISP for far, in both families.
func (c *caseLab) beside() func() int {
	c.t.Helper()
	four := counting(c.t, c.ISP1, "prerouting priority -300", "iifname home ip daddr "+lab.Far4)
	six := counting(c.t, c.ISP1, "prerouting priority -300", "iifname home ip6 daddr "+lab.Far6)
	return func() int { return four() + six() }
}

// want probes, and compares each answer; a "!" stands for any error, and what begins
// with it for one that has this text.
func (c *caseLab) want(what string, p lab.Probe, want string, kinds ...string) {
	c.t.Helper()
	for kind, got := range c.Probe(p, kinds...) {
		part, failure := strings.CutPrefix(want, "!")
		if failure && strings.HasPrefix(got, "error: ") && strings.Contains(got, part) || !failure && got == want || !failure && got == "answered" {
			continue
		}
		c.t.Errorf("%s: %s to %s from %q: %q, want %q", what, kind, p.To, p.Source, got, want)
	}
}

// families are far's addresses, and those of the uplinks that far sees.
var families = []struct {
	number            int
	far, ours, others string
}{{4, lab.Far4, two4, one4}, {6, lab.Far6, two6, one6}}

// unreachable and refused are how a connection fails at once.
const unreachable, refusal = "!network is unreachable", "!connection refused"

// TestCaseClients: each kind of a client leaves by the uplink, with its source, from
// the first packet on.
func TestCaseClients(t *testing.T) {
	eachWay(t, func(t *testing.T, c *caseLab) {
		c.Script("sysctl -qw net.ipv4.tcp_fastopen=5 net.ipv4.ping_group_range='0 0'")
		c.Far.Script("sysctl -qw net.ipv4.tcp_fastopen=0x602")
		c.MustMH("sync")
		beside := c.beside()
		for _, f := range families {
			c.Server(c.Far, "", "tcp", f.far, 70) // Echo ends before it has read what is in a SYN
			c.want("a client", lab.Probe{To: f.far, Port: 70, Cgroup: c.service}, f.ours, "fastopen")
			c.want("a client", lab.Probe{To: f.far, Cgroup: c.service}, f.ours, lab.ProbeKinds(f.number)...)
			c.want("bound to the uplink's own", lab.Probe{To: f.far, Source: f.ours, Cgroup: c.service}, f.ours, "tcp", "mptcp", "udp", "udp connected")
		}
		if n := beside(); n != 0 {
			t.Errorf("%d packets left by the other uplink", n)
		}
		noSpoof(t, c.Lab)
	})
}

// TestCaseOtherSource binds to the other uplink's address: the second lock drops what
// a socket's mark sends from there; a packet's source is translated.
func TestCaseOtherSource(t *testing.T) {
	eachWay(t, func(t *testing.T, c *caseLab) {
		c.MustMH("sync")
		beside := c.beside()
		for _, f := range families {
			c.want("bound to the other's", lab.Probe{To: f.far, Source: f.others, Cgroup: c.service}, c.of("!", f.ours), "tcp", "udp", "udp connected", "udp, a port")
		}
		if n := beside(); n != 0 {
			t.Errorf("%d packets left by the other uplink", n)
		}
		noSpoof(t, c.Lab)
	})
}

// TestCaseSubflows: the kernel makes MPTCP's further connections, from the other
// uplink's address: none leaves by that one, nor with its source by ours.
func TestCaseSubflows(t *testing.T) {
	eachWay(t, func(t *testing.T, c *caseLab) {
		c.Script("ip mptcp limits set subflow 4; ip mptcp endpoint add " + one4 + " dev up1 subflow")
		c.Far.Script("ip mptcp limits set subflow 4")
		c.Server(c.Far, "", "mptcp", lab.Far4, 70)
		c.MustMH("sync")
		beside := c.beside()
		joins := counting(t, c.Namespace, "output priority -300", "ip saddr "+one4+" tcp dport 70 tcp flags syn")
		c.want("a client", lab.Probe{To: lab.Far4, Port: 70, Cgroup: c.service}, two4, "mptcp, held")
		if n := joins(); n == 0 {
			t.Error("the kernel made no further connection: nothing was proved")
		}
		if n := beside(); n != 0 {
			t.Errorf("%d packets left by the other uplink", n)
		}
		noSpoof(t, c.Lab)
	})
}

// TestCaseServers: TCP servers of every kind answer by the uplink that they were asked
// by. UDP servers answer at their own uplink's address, and by packet also at the other
// one's where they answer from the address that was asked.
func TestCaseServers(t *testing.T) {
	eachWay(t, func(t *testing.T, c *caseLab) {
		c.MustMH("sync")
		port := 100
		serve := func(kind, address string) int {
			port++
			c.Server(c.Namespace, c.service, kind, address, port)
			return port
		}
		ask := func(server, network, at string, port int, own bool, wantOther, wantOwn string) {
			t.Helper()
			want := wantOther
			if own {
				want = wantOwn
			}
			c.want(server, lab.Probe{From: c.Far, To: at, Port: port}, want, network)
		}
		for _, f := range families {
			any := map[int]string{4: "0.0.0.0", 6: "::"}[f.number]
			for _, kind := range []string{"tcp", "mptcp", "fastopen"} {
				network := map[string]string{"mptcp": "mptcp"}[kind]
				if network == "" {
					network = "tcp"
				}
				for _, address := range []string{any, f.ours, f.others} {
					at := serve(kind, address)
					for _, asked := range []string{f.ours, f.others} {
						if address == any || address == asked {
							ask(kind+" at "+address, network, asked, at, asked == f.ours, f.far, f.far)
						}
					}
				}
			}
			// Of both families.
			if f.number == 6 {
				at := serve("tcp", "::")
				for _, asked := range []string{two4, one4} {
					ask("tcp at ::", "tcp", asked, at, asked == two4, lab.Far4, lab.Far4)
				}
			}
			own, other := serve("udp", f.ours), serve("udp", f.others)
			ask("udp at its own", "udp connected", f.ours, own, true, "", f.far)
			ask("udp at the other's", "udp connected", f.others, other, false, c.of("!", f.far), "")
			info, plain := serve("pktinfo", any), serve("udp", any)
			ask("udp with pktinfo", "udp connected", f.ours, info, true, "", f.far)
			ask("udp with pktinfo", "udp connected", f.others, info, false, c.of("!", f.far), "")
			ask("udp without", "udp connected", f.ours, plain, true, "", f.far)
		}
		// And what it asks itself leaves by its uplink.
		for _, f := range families {
			c.want("a client", lab.Probe{To: f.far, Cgroup: c.service}, f.ours, "tcp", "udp")
		}
		noSpoof(t, c.Lab)
	})
}

// TestCaseNear: this host and its networks are reached as ever, a bridge that came
// after the last run, too.
func TestCaseNear(t *testing.T) {
	eachWay(t, func(t *testing.T, c *caseLab) {
		lan := c.Behind()
		c.Echo(lan, "", "10.9.0.2", "fd00:9::2")
		c.Echo(c.Namespace, "", "127.0.0.1", "127.0.0.53", "::1", one4, two4, one6, two6)
		c.MustMH("sync")
		bridge := c.Bridge()
		c.Echo(bridge, "", "10.8.0.2", "fd00:8::2")
		for to, from := range map[string]string{
			"127.0.0.1": "127.0.0.1", "127.0.0.53": "127.0.0.1", "::1": "::1", one4: one4, two4: two4, one6: one6, two6: two6,
			"10.9.0.2": "10.9.0.1", "fd00:9::2": "fd00:9::1", "10.8.0.2": "10.8.0.1", "fd00:8::2": "fd00:8::1",
		} {
			c.want("near", lab.Probe{To: to, Cgroup: c.service}, from, "tcp", "udp", "udp connected")
		}
		noSpoof(t, c.Lab)
	})
}
