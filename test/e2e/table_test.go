package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

const table = "inet wg_multihome"

// nftPath is a cgroup as nft(8) takes it: below /sys/fs/cgroup.
func nftPath(t *testing.T, l *lab.Lab, cgroup string) string {
	t.Helper()
	path, err := filepath.Rel("/sys/fs/cgroup", l.CgroupDir(cgroup))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%q", path)
}

// TestServiceRestart makes the cgroup anew: it has another id then.
func TestServiceRestart(t *testing.T) {
	l := newLab(t)
	l.Static()
	service, slice := l.MakeCgroup("a.service"), l.MakeCgroup("b.slice")
	l.MakeCgroup("b.slice/c.service")
	config := pins(l, nil, []string{service, slice})
	l.MustMH("sync", "--config", config)
	wantService(t, l, service, lab.Far4, two4)
	l.RemoveCgroup("a.service")
	l.MustMH("sync", "--config", config)
	l.MakeCgroup("a.service")
	l.RemoveCgroup("b.slice/c.service")
	l.MakeCgroup("b.slice/c.service")
	wantService(t, l, slice+"/c.service", lab.Far4, two4) // a slice keeps its id
	r := l.MH("plan", "--exit-code", "--config", config)
	wantCode(t, r, 3)
	wantEqual(t, "plan", r.Stdout, "+ nft element paths_0x2005 "+service+"\n")
	l.RemoveCgroup("a.service")
	l.MakeCgroup("a.service")
	l.MustMH("sync", "--config", config)
	wantService(t, l, service, lab.Far4, two4)
	l.RemoveCgroup("a.service")
	l.MakeCgroup("a.service")
	r = l.MH("plan", "--exit-code", "--config", config)
	wantCode(t, r, 3)
	if !regexp.MustCompile(`^\+ nft element paths_0x2005 ` + regexp.QuoteMeta(service) + `\n- nft element paths_0x2005 \d+\n$`).MatchString(r.Stdout) {
		t.Errorf("plan is not the new id for the old one:\n%s", r.Stdout)
	}
	l.MustMH("sync", "--config", config)
	wantService(t, l, service, lab.Far4, two4)
	wantService(t, l, service, lab.Far6, two6)
	noSpoof(t, l)
}

// TestElementsOfOthers puts cgroups into the public sets as systemd's NFTSet=
// does, and keeps them there.
func TestElementsOfOthers(t *testing.T) {
	l := newLab(t)
	l.Static()
	a, b, c := l.MakeCgroup("a.service"), l.MakeCgroup("x.slice/b.service"), l.MakeCgroup("c.service")
	l.MustMH("sync", "--config", pins(l, []string{}, nil))
	for set, cgroup := range map[string]string{"mark_0x2005": a, "mark_0x1001": b} {
		l.Run("nft", "add element "+table+" "+set+" { "+nftPath(t, l, cgroup)+" }")
	}
	stay := func(when string) {
		t.Helper()
		for cgroup, seen := range map[string]string{a: two4, b: one4} {
			if got := l.Ask(lab.Query{Network: "udp", Far: lab.Far4, Cgroup: cgroup}); got != seen {
				t.Errorf("%s: far saw %q of %s, want %q", when, got, cgroup, seen)
			}
		}
		wantPart(t, when, l.Run("nft", "list", "set", "inet", "wg_multihome", "mark_0x1001"), "b.service")
	}
	stay("at first")
	for _, change := range []string{
		"ip addr add 198.51.100.11/24 dev up2; ip addr del 198.51.100.10/24 dev up2; ip addr add 198.51.100.10/24 dev up2; ip addr del 198.51.100.11/24 dev up2; ip route replace default via 198.51.100.1 dev up2 metric 2",
		"ip route add 10.77.0.0/16 via 192.0.2.1 dev up1", "ip link add wg9 type veth peer name x9", "nft flush chain " + table + " services", "nft delete chain " + table + " services",
		"nft add chain " + table + " lock '{ policy drop; }'",
	} {
		l.Script(change)
		l.MustMH("sync", "--config", pins(l, []string{c}, nil))
		l.MustMH("sync", "--config", pins(l, nil, []string{c}))
		stay(change)
	}
	noDriftOf(t, l, pins(l, nil, []string{c}))
	// One that is in both of a mark's sets.
	l.MustMH("sync", "--config", pins(l, []string{b}, []string{a}))
	l.MustMH("sync", "--config", pins(l, []string{}, []string{}))
	stay("no longer configured")
	l.Run("nft", "delete element "+table+" mark_0x2005 { "+nftPath(t, l, a)+" }")
	wantService(t, l, a, lab.Far4, one4)
	noSpoof(t, l)
}

func noDriftOf(t *testing.T, l *lab.Lab, config string) {
	t.Helper()
	r := l.MH("plan", "--exit-code", "--config", config)
	if r.Code != 0 || r.Stdout != "" {
		t.Errorf("a second run would do something: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// foreignTables are what no run of ours may touch, with names like ours.
const foreignTables = `table ip wg_multihome {
	set mark_0x2005 {
		type cgroupsv2
	}

	chain services {
		type filter hook output priority filter; policy accept;
		ct state new counter packets 0 bytes 0
	}
}
table inet other {
	set paths_0x2005 {
		type inet_service
		elements = { 22 }
	}

	map m {
		type ipv4_addr : verdict
		elements = { 192.0.2.99 : accept }
	}

	chain lock {
		ip saddr vmap @m
	}
}
`

// TestSecondSyncTouchesNothing of ours, nor of others, in nf_tables.
func TestSecondSyncTouchesNothing(t *testing.T) {
	l := newLab(t)
	l.Static()
	a, b := l.MakeCgroup("a.service"), l.MakeCgroup("b.service")
	l.Write("/run/foreign", foreignTables, 0o644)
	l.Run("nft", "-f", "/run/foreign")
	others := func() string {
		return l.Script("nft -a list table inet other; nft -a list table ip wg_multihome | sed 's/packets [0-9]* bytes [0-9]*//'")
	}
	foreign := others()
	config := pins(l, []string{a}, []string{b})
	l.MustMH("sync", "--config", config)
	flows := talks(l, b)
	wantSaid(t, "begun", flows, two4, two6)
	ours := func() string {
		return regexp.MustCompile(`packets \d+ bytes \d+`).ReplaceAllString(l.Run("nft", "-a", "list", "table", "inet", "wg_multihome"), "")
	}
	before := ours()
	// Every transaction has a number (NFT_MSG_NEWGEN), also one that is empty.
	generations, stop := monitor(t, l)
	for range 3 {
		if r := l.MustMH("sync", "--config", config); r.Stderr != "" || r.Stdout != "" {
			t.Errorf("a second run says\n%s%s", r.Stdout, r.Stderr)
		}
	}
	l.Run("nft", "add table inet witness")
	lab.Until(t, "the monitor has seen the witness", func() bool { return strings.Contains(generations(), "witness") })
	stop()
	if n := strings.Count(generations(), "new generation"); n != 1 {
		t.Errorf("%d transactions while nothing was to be done:\n%s", n, generations())
	}
	wantEqual(t, "our table", ours(), before)
	wantEqual(t, "others' tables", others(), foreign)
	wantSaid(t, "after", flows, two4, two6)
	l.MustMH("sync", "--config", pins(l, []string{a}, nil))
	wantSaid(t, "unpinned", flows, two4, two6)
	wantEqual(t, "others' tables", others(), foreign)
	l.MustMH("down")
	wantEqual(t, "others' tables", others(), foreign)
	wantNone(t, "tables", l.Run("nft", "list", "tables"), table)
}

// monitor runs nft's; what it said so far is what the first result returns.
func monitor(t *testing.T, l *lab.Lab) (said func() string, stop func()) {
	t.Helper()
	const file = "/run/monitor"
	ctx, cancel := context.WithTimeout(context.Background(), 2*lab.Patience)
	cmd := l.Command(ctx, nil, "sh", "-euc", "exec nft monitor >"+file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		cancel()
		_ = cmd.Wait()
	}
	t.Cleanup(stop)
	tries := 0
	lab.Until(t, "nft monitors", func() bool {
		tries++
		l.Run("nft", fmt.Sprintf("add table inet begun%d", tries))
		return strings.Contains(l.Read(file), "begun")
	})
	last := fmt.Sprintf("begun%d", tries)
	lab.Until(t, "nft has told all", func() bool {
		_, after, found := strings.Cut(l.Read(file), last)
		return found && strings.Contains(after, "new generation")
	})
	begun := len(l.Read(file))
	return func() string { return l.Read(file)[begun:] }, stop
}

// TestTableLost: whatever others do to it, it is back with the next sync.
func TestTableLost(t *testing.T) {
	for name, damage := range map[string]string{
		"deleted": "delete table " + table, "flushed ruleset": "flush ruleset", "flushed table": "flush table " + table,
		"marking lost": "flush chain " + table + " services", "masquerading lost": "flush chain " + table + " sources",
		"one rule lost": "", "set emptied": "flush set " + table + " paths_0x2005",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			service := pinnedService(t, l)
			l.MustMH("sync")
			whole := l.Run("nft", "list", "table", "inet", "wg_multihome")
			wantService(t, l, service, lab.Far4, two4)
			if damage == "" {
				// The lab's tree is one name deep, and the service's path has two.
				m := regexp.MustCompile(`level 3 @paths_0x2005 goto.* # handle (\d+)`).FindStringSubmatch(l.Run("nft", "-a", "list", "chain", "inet", "wg_multihome", "services"))
				if m == nil {
					t.Fatal("no rule that looks up paths_0x2005 at the service's level")
				}
				damage = "delete rule " + table + " services handle " + m[1]
			}
			l.Run("nft", damage)
			if got := l.Ask(lab.Query{Network: "tcp", Far: lab.Far4, Cgroup: service}); got == two4 {
				t.Error("the damage does no harm")
			}
			wantCode(t, l.MH("status", "--exit-code"), 3)
			l.MustMH("sync")
			noDrift(t, l)
			wantService(t, l, service, lab.Far4, two4)
			wantService(t, l, service, lab.Far6, two6)
			// `nft list` has the parts in the order in which they were made.
			clean := func(s string) string {
				return sortLines(regexp.MustCompile(`packets \d+ bytes \d+`).ReplaceAllString(s, ""))
			}
			wantEqual(t, "table", clean(l.Run("nft", "list", "table", "inet", "wg_multihome")), clean(whole))
		})
	}
}

// TestTwoThousandCgroups are pinned in one run. Beside it nothing runs: nft(8)
// walks the whole tree for each element that it lists.
func TestTwoThousandCgroups(t *testing.T) {
	l := lab.New(t, binary)
	l.Static()
	paths := make([]string, 2000)
	for i := range paths {
		paths[i] = l.MakeCgroup(fmt.Sprintf("many%d.slice/%d.service", i%7, i))
	}
	config := pins(l, nil, paths)
	begun := time.Now()
	l.MustMH("sync", "--config", config)
	t.Logf("2000 cgroups in %s", time.Since(begun))
	noDriftOf(t, l, config)
	if n := strings.Count("\n"+l.MH("plan", "--config", pins(l, nil, []string{})).Stdout, "\n- nft element paths_0x2005 "); n != len(paths) {
		t.Errorf("without them %d elements would go", n)
	}
	for _, i := range []int{0, 499, 500, 501, 1024, 1998, 1999} {
		if got := l.Ask(lab.Query{Network: "udp", Far: lab.Far4, Cgroup: paths[i]}); got != two4 {
			t.Errorf("%s: far saw %q", paths[i], got)
		}
	}
	noSpoof(t, l)
}
