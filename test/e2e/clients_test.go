package e2e

import (
	"fmt"
	"net/netip"
	"os"

	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wg-multihome/policy"
	"wg-multihome/test/lab"
)

// realClients are those whose hooks call exit-hook, and on which release of Debian
// they run; "": this machine's.
var realClients = []struct {
	name, release string
	start         func(l *lab.Lab, uplinks ...string) lab.Client
}{
	{"dhclient", "", (*lab.Lab).RealDhclient},
	{"dhcpcd", "", func(l *lab.Lab, uplinks ...string) lab.Client { return l.RealDhcpcd(quickly, uplinks...) }},
	{"udhcpc", "", (*lab.Lab).RealUdhcpc},
	{"dhcpcd", "trixie", func(l *lab.Lab, uplinks ...string) lab.Client { return l.RealDhcpcd(quickly, uplinks...) }},
	{"udhcpc", "trixie", (*lab.Lab).RealUdhcpc},
}

// quickly has dhcpcd look for nobody else who has its address, which takes 5 s.
const quickly = "noarp\nnoipv4ll\n"

// leaseTime is long enough for a test, and dhcpcd takes none below 20 s.
const leaseTime = 300

// clientCase is a host with a real client on both uplinks, each with a scripted
// server; the second uplink is pinned.
type clientCase struct {
	*lab.Lab
	t        *testing.T
	client   lab.Client
	one, two *lab.Server
}

func newClientCase(t *testing.T, release string, start func(l *lab.Lab, uplinks ...string) lab.Client) clientCase {
	t.Helper()
	l := newLab(t)
	if release != "" {
		l.Run("mount", "-o", "bind,ro", filepath.Join(releaseTree(t, release), "usr"), "/usr")
	}
	l.Interfaces(pinned)
	l.ISP2.Script("ip addr add 198.51.100.2/24 dev home; ip addr add 198.51.100.3/24 dev home")
	c := clientCase{Lab: l, t: t, one: l.Scripted(l.ISP1, "192.0.2.1"), two: l.Scripted(l.ISP2, "198.51.100.1")}
	c.one.Does(lab.Script{Address: "192.0.2.20", Router: "192.0.2.1", Seconds: leaseTime})
	c.two.Does(lab.Script{Address: "198.51.100.20", Router: "198.51.100.1", Seconds: leaseTime})
	l.MustMH("sync")
	if dir := os.Getenv("CLIENT_ENVIRONMENTS"); dir != "" { // of policy/lease/testdata
		l.Run("mkdir", "/run/captured")
		t.Cleanup(func() { fatal(t, os.CopyFS(filepath.Join(dir, t.Name()), os.DirFS(l.Path("/run/captured")))) })
	}
	c.client = start(l, "up1", "up2")
	until(t, "the lease of the first uplink", c.story, func() bool { return strings.Contains(l.Read("/run/wg-multihome/leases/up1.json"), "192.0.2.20") })
	return c
}

// releaseTree returns a root tree of another release of Debian.
func releaseTree(t *testing.T, release string) string {
	t.Helper()
	out, err := exec.Command("../vm/root", release).Output()
	if err != nil {
		t.Fatalf("vm/root %s: %v", release, err)
	}
	return strings.TrimSpace(string(out))
}

// tableOf is the number of an IPv4 address's table.
func tableOf(address string) string {
	return fmt.Sprint(policy.TableOf(netip.MustParseAddr(address)))
}

// until waits as long as a lease of 20 s may take to expire.
func until(t *testing.T, what string, said func() string, condition func() bool) {
	t.Helper()
	const limit = 90 * time.Second
	for end := time.Now().Add(limit); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s in vain: %s\n%s", limit, what, said())
		}
	}
}

// story is what has happened, for whoever has to find out why it did not.
func (c clientCase) story() string {
	return "server: " + c.two.Heard() + "\nevents: " + c.Read("/run/events") + "\nhook: " + c.Read("/run/hook.log") + "\nscript: " + c.Read("/run/script.log") +
		"\n" + c.Try(nil, "sh", "-c", "ip addr show dev up2; ip route; ip rule; cat "+record).Stdout
}

// asks has the client ask its server until a condition holds: dhcpcd 9.4.1 does not
// hear a signal that comes while its hooks run.
func (c clientCase) asks(ask func(uplink string), what string, condition func() bool) {
	c.t.Helper()
	const again = 5 * time.Second
	next := time.Now()
	until(c.t, what, c.story, func() bool {
		if condition() {
			return true
		}
		if now := time.Now(); !now.Before(next) {
			next = now.Add(again)
			ask("up2")
		}
		return false
	})
}

// isLeased is a condition: up2 has that lease, and its table.
func (c clientCase) isLeased(address, router string) func() bool {
	return func() bool {
		c.t.Helper()
		return strings.Contains(c.Default(tableOf(address))+" ", "via "+router+" dev up2 ") && strings.Contains(c.Read(record), `"`+router+`"`)
	}
}

// wantLease waits for a lease of up2, and then all has to be right.
func (c clientCase) wantLease(what, address, router string) {
	c.t.Helper()
	until(c.t, what, c.story, c.isLeased(address, router))
	c.settled(what)
	wantPart(c.t, what+": record", c.Read(record), `"`+address+`/24"`)
	c.WantSeen(lab.Far4, "", mark, address)
	c.WantSeen(lab.Far4, address, 0, address)
	c.WantSeen(lab.Far4, "192.0.2.20", 0, "192.0.2.20")
	addresses := c.Run("ip", "addr", "show", "dev", "up2")
	for _, other := range []string{"198.51.100.20", "198.51.100.30", "198.51.100.40"} {
		if !strings.Contains(addresses, other+"/") { // dhcpcd 9.4.1 leaves one behind that it got no NAK for
			wantNone(c.t, what+": rules", c.Rules("-4"), "from "+other+" ")
		}
	}
}

// isLost is a condition: up2 has no lease, and no source rule.
func (c clientCase) isLost() bool {
	return c.Read(record) == "" && !strings.Contains(c.Rules("-4"), "from 198.51.100.")
}

// wantLost waits for the end of up2's lease: its mark is refused then, and its
// guards stand.
func (c clientCase) wantLost(what string) {
	c.t.Helper()
	until(c.t, what, c.story, c.isLost)
	c.settled(what)
	for _, family := range []string{"-4", "-6"} {
		wantPart(c.t, what+": guards", c.Rules(family), "fwmark 0x2005 unreachable")
	}
	c.WantRefused(lab.Far4, "", mark)
}

// settled waits until the hook that has written the record has done the rest.
func (c clientCase) settled(what string) {
	c.t.Helper()
	until(c.t, what+": nothing is left to do", c.story, func() bool { return c.MH("plan", "--exit-code").Code == 0 })
}

// TestClientFollowsItsServer: whatever a server says to a real client, rules and
// records are right after it, and no marked packet has left by the other uplink.
func TestClientFollowsItsServer(t *testing.T) {
	for _, client := range realClients {
		t.Run(strings.TrimSpace(client.name+" "+client.release), func(t *testing.T) {
			c := newClientCase(t, client.release, client.start)
			sent(t, c.ISP1)
			sent(t, c.ISP2)
			stream := c.Stream(lab.Sender{To: lab.Far4, Mark: mark, Pause: time.Millisecond})
			c.wantLease("first lease", "198.51.100.20", "198.51.100.1")
			wantClientFound(t, c.Lab, client.name)

			before := c.Read(record)
			c.asks(c.client.Renew, "a renewal", func() bool { return c.Read(record) != before })
			c.wantLease("a renewal", "198.51.100.20", "198.51.100.1")

			c.two.Does(lab.Script{Address: "198.51.100.20", Router: "198.51.100.2", Seconds: leaseTime})
			c.asks(c.client.Renew, "another router", c.isLeased("198.51.100.20", "198.51.100.2"))
			c.wantLease("another router", "198.51.100.20", "198.51.100.2")

			c.two.Does(lab.Script{Address: "198.51.100.20", Router: "198.51.100.2", Seconds: leaseTime, Routes: []string{"10.99.0.0/16", "198.51.100.1", "0.0.0.0/0", "198.51.100.3"}})
			c.asks(c.client.Renew, "option 121", c.isLeased("198.51.100.20", "198.51.100.3"))
			c.wantLease("option 121", "198.51.100.20", "198.51.100.3")

			c.two.Does(lab.Script{Address: "198.51.100.30", Router: "198.51.100.1", Seconds: leaseTime})
			c.asks(c.client.Rebind, "NAK", c.isLeased("198.51.100.30", "198.51.100.1"))
			c.wantLease("NAK", "198.51.100.30", "198.51.100.1")

			c.two.Does(lab.Script{Address: "198.51.100.40", Router: "198.51.100.1", Seconds: 20, Move: true})
			c.asks(c.client.Rebind, "another address, and no NAK", c.isLeased("198.51.100.40", "198.51.100.1"))
			c.wantLease("another address, and no NAK", "198.51.100.40", "198.51.100.1")

			c.two.Does(lab.Script{Silent: true})
			c.wantLost("expiry")
			c.WantSeen(lab.Far4, "192.0.2.20", 0, "192.0.2.20")

			c.two.Does(lab.Script{Address: "198.51.100.20", Router: "198.51.100.1", Seconds: leaseTime})
			c.wantLease("the server is back", "198.51.100.20", "198.51.100.1")

			c.asks(c.client.Release, "release", c.isLost)
			c.wantLost("release")
			wantPart(t, "requests", c.two.Heard(), "RELEASE")

			if total := stream(); total == 0 || sent(t, c.ISP2) == 0 {
				t.Errorf("%d packets were sent, %d arrived", total, sent(t, c.ISP2))
			}
			if leaked := sent(t, c.ISP1); leaked != 0 {
				t.Errorf("%d marked packets left by the other uplink", leaked)
			}
			noSpoof(t, c.Lab)
		})
	}
}
