package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// TestServiceFollowsItsUplink: with the uplink lost, what is pinned is cut off,
// running flows too. It is back with its new address: by packet running flows,
// by socket what asks anew.
//
// It runs by itself: the kernel forgets masqueraded connections in the
// background, and no more than 16 times at once in all namespaces together
// (MAX_MASQ_WORKER_COUNT of nf_nat_masquerade.c); what is over is lost.
func TestServiceFollowsItsUplink(t *testing.T) {
	for _, marking := range []string{"packet", "socket"} {
		t.Run(marking, func(t *testing.T) { followsItsUplink(t, marking) })
	}
}

func followsItsUplink(t *testing.T, marking string) {
	l := lab.New(t, binary)
	l.Static()
	service := l.MakeCgroup("a.service")
	config := l.TOML(fmt.Sprintf("[uplink.up2]\nfwmark = 0x2005\nmarking = %q\ncgroups = [%q]\ngateway = [\"198.51.100.1\", \"2001:db8:2::1\"]\n", marking, service))
	sync := func() { l.MustMH("sync", "--config", config) }
	sync()
	flows := talks(l, service)
	wantSaid(t, "begun", flows, two4, two6)
	sent(t, l.ISP1)
	stops := []func() int{l.FloodFrom(service, lab.Far4, 0), l.FloodFrom(service, lab.Far6, 0)}
	for _, c := range []struct{ change, seen4, seen6 string }{
		{"ip link set up2 down", "", ""},
		{"ip link set up2 up; ip -6 addr add 2001:db8:2::20/64 dev up2 nodad", two4, "2001:db8:2::20"}, // IPv4 addresses stay
		{"ip addr add 198.51.100.20/24 dev up2; ip addr del 198.51.100.10/24 dev up2", "198.51.100.20", "2001:db8:2::20"},
		{"ip -6 addr add 2001:db8:2::30/64 dev up2 nodad; ip -6 addr del 2001:db8:2::20/64 dev up2", "198.51.100.20", "2001:db8:2::30"},
		{"ip addr flush dev up2 scope global", "", ""},
		{"ip addr add 198.51.100.10/24 dev up2", two4, ""},
		{"ip -6 addr add 2001:db8:2::10/64 dev up2 nodad", two4, two6},
	} {
		l.Script(c.change)
		// Before a run of ours: not by the other one.
		sync()
		noDriftOf(t, l, config)
		for i, seen := range []string{c.seen4, c.seen6} {
			far := []string{lab.Far4, lab.Far6}[i]
			if seen == "" {
				wantCutOff(t, l, service, far)
				atOnce := map[string]string{"packet": "refused", "socket": "unreachable"}[marking]
				if got := l.Ask(lab.Query{Network: "tcp", Far: far, Cgroup: service}); !strings.Contains(got, atOnce) {
					t.Errorf("%s: TCP to %s does not fail at once: %q", c.change, far, got)
				}
				if got := flows[i].Say(); !strings.HasPrefix(got, "error: ") {
					t.Errorf("%s: far saw %q of a running flow", c.change, got)
				}
				continue
			}
			wantService(t, l, service, far, seen)
			if got := flows[i].Say(); marking == "packet" && got != seen {
				t.Errorf("%s: far saw %q of a running flow, want %q", c.change, got, seen)
			}
		}
	}
	for _, stop := range stops {
		if stop() == 0 {
			t.Error("a flood sent nothing")
		}
	}
	if leaked := sent(t, l.ISP1); leaked != 0 {
		t.Errorf("%d packets of the service left by the other uplink", leaked)
	}
	noSpoof(t, l)
}

// TestReplacedUnderLoad changes sets and chains again and again, and kills some
// runs, while a pinned service opens flow after flow.
func TestReplacedUnderLoad(t *testing.T) {
	eachWay(t, func(t *testing.T, w *caseLab) {
		l := w.Lab
		service, other, deep := l.MakeCgroup("a.service"), l.MakeCgroup("b.service"), l.MakeCgroup("1/2/3/4/5/6/7/8/9")
		l.MustMH("sync", "--config", w.pins(nil, []string{service}))
		sent(t, l.ISP1)
		sent(t, l.ISP2)
		stops := []func() int{l.FloodFrom(service, lab.Far4, 0), l.FloodFrom(service, lab.Far6, 0)}
		killed := 0
		for i := range 12 {
			for _, change := range []struct {
				script string
				config func() string
			}{
				{"true", func() string { return w.pins([]string{other}, []string{service, deep}) }},
				{"ip route add 10.77.0.0/16 via 192.0.2.1 dev up1", func() string { return w.pins([]string{other}, []string{service}) }},
				{"ip link set up1 down; ip link set up1 up; ip addr replace 2001:db8:1::10/64 dev up1 nodad; ip route replace default via 192.0.2.1 dev up1 metric 1; ip route replace default via 2001:db8:1::1 dev up1 metric 1", func() string {
					return l.TOML(fmt.Sprintf("[uplink.up2]\nfwmark = 0x2005\nmarking = %q\ncgroups = [%q, %q]\n", w.way, service, other))
				}},
				{"nft delete chain inet wg_multihome " + w.of("lock", "sources") + "; ip route flush 10.77.0.0/16", func() string { return w.pins(nil, []string{service}) }},
			} {
				l.Script(change.script)
				config := change.config()
				if i%3 == 0 && runKilled(t, l, time.Duration(1+i)*time.Millisecond, "sync", "--config", config) {
					killed++
				}
				l.MustMH("sync", "--config", config)
			}
		}
		for _, stop := range stops {
			if n := stop(); n == 0 {
				t.Error("a flood sent nothing")
			}
		}
		if sent(t, l.ISP2) == 0 {
			t.Error("no packet of the service left by its uplink")
		}
		if leaked := sent(t, l.ISP1); leaked != 0 {
			t.Errorf("%d packets of the service left by the other uplink", leaked)
		}
		t.Logf("%d runs were killed", killed)
		// The counter sees what leaves there.
		stop := l.FloodFrom(other, lab.Far4, 0)
		lab.Until(t, "an unpinned flood leaves by up1", func() bool { return sent(t, l.ISP1) > 0 })
		stop()
	})
}

// TestErrorKeepsServices: an error in the configuration unpins nothing.
func TestErrorKeepsServices(t *testing.T) {
	eachWay(t, func(t *testing.T, w *caseLab) {
		l := w.Lab
		a, b, c := l.MakeCgroup("a.service"), l.MakeCgroup("b.service"), l.MakeCgroup("c.service")
		l.MustMH("sync", "--config", w.pins([]string{b}, []string{a}))
		for name, text := range map[string]string{
			"a mark":       fmt.Sprintf("[uplink.up2]\nfwmark = \"0x20zz\"\ncgroups = [%q]\n", a),
			"a key":        "[uplink.up2]\nfwmark = 0x2005\ncgroop = []\n",
			"syntax":       "[uplink.up2\n",
			"a value":      "[uplink.up2]\nfwmark = 0x2005\ncgroups = 7\n",
			"a path":       fmt.Sprintf("[uplink.up2]\nfwmark = 0x2005\ncgroups = [\"a/../../b\", %q]\n", c),
			"two claims":   fmt.Sprintf("[uplink.up1]\nfwmark = 0x1001\ncgroups = [%q]\n[uplink.up2]\nfwmark = 0x2005\ncgroups = [%[1]q]\n", a),
			"another name": "[uplink.up3]\nfwmark = 0x1001/0x1\n",
		} {
			config := l.TOML(text)
			for range 2 {
				wantCode(t, l.MH("sync", "--config", config), 2)
				for cgroup, seen := range map[string]string{a: two4, b: one4} {
					if got := l.Ask(lab.Query{Network: "udp", Far: lab.Far4, Cgroup: cgroup}); got != seen {
						t.Errorf("%s: far saw %q of %s, want %q", name, got, cgroup, seen)
					}
				}
			}
		}
		if got := l.Ask(lab.Query{Network: "udp", Far: lab.Far4, Cgroup: c}); got != two4 {
			t.Errorf("the valid part is not converged: far saw %q", got)
		}
		// Mended, what is not configured goes.
		l.MustMH("sync", "--config", w.pins([]string{}, []string{c}))
		wantService(t, l, a, lab.Far4, one4)
		wantService(t, l, c, lab.Far4, two4)
		noSpoof(t, l)
	})
}

// TestCgroupsThatCannotBeSeen: where cgroup2 is mounted no more, nothing is
// known of the services, and what was pinned stays so.
func TestCgroupsThatCannotBeSeen(t *testing.T) {
	l := newLab(t)
	l.Static()
	service := pinnedService(t, l)
	l.MustMH("sync")
	id := strings.TrimSpace(l.Run("stat", "-c", "%i", l.CgroupDir(service)))
	chain := func() string { return l.Run("nft", "-a", "list", "chain", "inet", "wg_multihome", "services") }
	before := chain()
	l.Script("umount -l $(findmnt -n -l -o TARGET -t cgroup2 | tac)")
	l.Script("ip route add 10.77.0.0/16 via 192.0.2.1 dev up1")
	r := l.MH("sync")
	wantCode(t, r, 1)
	wantPart(t, "what sync says", r.Stderr, "services cannot be pinned")
	wantPart(t, "the rest is done", l.Run("nft", "list", "set", "inet", "wg_multihome", "via4_up1"), "10.77.0.0/16")
	wantEqual(t, "chain", chain(), before)
	wantPart(t, "the service's id", l.Run("nft", "list", "set", "inet", "wg_multihome", "paths_0x2005"), id)
}
