package e2e

import (
	"context"
	"fmt"
	"math/rand"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

func sortLines(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

var packets = regexp.MustCompile(`packets (\d+)`)

// sent counts what a router got from the host for port 9, where only floods
// go to; the first call begins to count.
func sent(t *testing.T, isp *lab.Namespace) int {
	t.Helper()
	r := isp.Try(nil, "nft", "list", "counter", "inet", "flood", "seen")
	if r.Code != 0 {
		isp.Script(`nft -f - <<X
table inet flood {
	counter seen {}
	chain in {
		type filter hook prerouting priority -300
		iifname home udp dport 9 counter name seen
	}
}
X`)
		return 0
	}
	m := packets.FindStringSubmatch(r.Stdout)
	if m == nil {
		t.Fatalf("no counter: %s", r.Stdout)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// lockDropped is how many packets of mark 0x2005 the second lock has dropped:
// what the rules alone would have let through.
func lockDropped(t *testing.T, l *lab.Lab) int {
	t.Helper()
	m := packets.FindStringSubmatch(l.Run("nft", "list", "counter", "inet", "wg_multihome", "lock_0x2005"))
	if m == nil {
		t.Fatal("the second lock has no counter")
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// noLeak counts marked packets from here on. What it returns fails the test if some left
// by the first uplink, or would have, but for the second lock. A flood may be dropped for
// its source: where IPv6 refuses a connect, the kernel picks a source from any device, and
// looks again with it (ip6_dst_lookup_tail); a rule or route that comes in between lets it
// through, to its uplink. The lock holds that, and rules cannot, so it is counted apart.
func noLeak(t *testing.T, l *lab.Lab) (check func(total int)) {
	t.Helper()
	// Before the lock, which drops both.
	marked := fmt.Sprintf("meta mark %d oifname ", mark)
	astray := counting(t, l.Namespace, "postrouting priority 0", marked+`!= "up2"`)
	spoofed := counting(t, l.Namespace, "postrouting priority 0", marked+`"up2" ip6 saddr 2001:db8:1::/64`)
	sent(t, l.ISP1)
	return func(total int) {
		t.Helper()
		if total == 0 {
			t.Error("no marked packet was sent")
		}
		if left := sent(t, l.ISP1); left != 0 {
			t.Errorf("%d of %d marked packets left by the other uplink", left, total)
		}
		if led, held := astray(), lockDropped(t, l)-spoofed(); led != 0 || held != 0 {
			t.Errorf("of %d marked packets rules led %d astray, and the second lock held %d others than those with the other uplink's source", total, led, held)
		}
	}
}

// TestKilledAnywhere changes the uplink's address, main's half defaults and a
// foreign rule in front again and again, kills each run at some moment, and
// floods marked packets all the while: not one may leave by the other uplink.
func TestKilledAnywhere(t *testing.T) {
	l := newLab(t)
	l.Static()
	config := l.TOML("[uplink.up2]\nfwmark = 0x2005\ngateway = [\"198.51.100.1\", \"2001:db8:2::1\"]\n")
	l.MustMH("sync", "--config", config)
	check := noLeak(t, l)
	stops := []func() int{l.Flood(lab.Far4, mark), l.Flood(lab.Far6, mark)}
	changes := []string{
		"ip addr add 198.51.100.11/24 dev up2; ip addr del 198.51.100.10/24 dev up2",
		"ip addr add 198.51.100.10/24 dev up2; ip addr del 198.51.100.11/24 dev up2",
		"ip addr add 2001:db8:2::9/64 dev up2 nodad", "ip addr del 2001:db8:2::9/64 dev up2",
		"ip link set up2 down; ip link set up2 up; ip -6 addr replace 2001:db8:2::10/64 dev up2 nodad",
		"ip route add default dev up1 table 51820; ip rule add pref 32753 lookup 51820 suppress_prefixlength 0", // captures nothing yet
		"ip rule del pref 32753 lookup 51820 suppress_prefixlength 0; ip route flush table 51820",
		"ip addr add 198.51.100.33/24 dev up2", "ip addr del 198.51.100.33/24 dev up2",
	}
	const seed = 20261124
	random := rand.New(rand.NewSource(seed))
	killed := 0
	for round := range 4 {
		for _, change := range changes {
			l.Script(change)
			for range 3 {
				if runKilled(t, l, time.Duration(random.Intn(9000))*time.Microsecond, "sync", "--config", config) {
					killed++
				}
			}
			l.MustMH("sync", "--config", config)
			if r := l.MH("plan", "--exit-code", "--config", config); r.Code != 0 {
				t.Fatalf("round %d, after %q: exit status %d\n%s%s", round, change, r.Code, r.Stdout, r.Stderr)
			}
		}
	}
	total := 0
	for _, stop := range stops {
		total += stop()
	}
	t.Logf("%d runs killed (seed %d), %d marked packets left", killed, seed, total)
	if killed == 0 {
		t.Error("no run was killed")
	}
	check(total)
	if sent(t, l.ISP2) != 0 { // begins to count there
		t.Fatal("counted too early")
	}
	dropped := l.Spoofed()
	l.WantSeen(lab.Far4, "", mark, two4)
	l.WantSeen(lab.Far6, "", mark, two6)
	if n := l.Spoofed() - dropped; n != 0 {
		t.Errorf("routers dropped %d packets with a source of another ISP", n)
	}
}

// runKilled runs the program and kills it after a time; it reports whether
// that came in time.
func runKilled(t *testing.T, l *lab.Lab, after time.Duration, args ...string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), lab.Patience)
	defer cancel()
	cmd := l.Command(ctx, nil, append([]string{l.Binary}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode() == -1
}
