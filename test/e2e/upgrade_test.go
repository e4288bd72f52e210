package e2e

import (
	"math/rand"
	"strings"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// earlier turns what stands into what versions without link groups made: suppress
// rules that pass over no group, tables with a default alone, links in no group.
const earlier = `
for f in -4 -6; do
	ip $f rule | sed -n 's/^\([0-9]*\):[[:space:]]*\(from.* suppress_prefixlength 0\) suppress_ifgroup 77 proto 77$/\1 \2/p' | while read -r pref rule; do
		ip $f rule add pref $pref $(echo "$rule" | sed 's/from all //') proto 77
		ip $f rule del pref $pref $(echo "$rule" | sed 's/from all //') suppress_ifgroup 77 proto 77
	done
	for table in $(ip $f rule | sed -n 's/.* lookup \([0-9]\{4,\}\) .*/\1/p' | sort -u); do
		ip $f route show table $table | sed '/^default/d' | while read -r route; do ip $f route del $route table $table; done
	done
done
for link in $(ip -o link show group 77 | sed 's/^[0-9]*: \([^:@]*\).*/\1/'); do ip link set $link group 0; done
`

// TestUpgrade brings what earlier versions made to what is wanted now, under
// traffic of marks and sources, and kills runs at any moment of it. None of it
// leaves by the other uplink.
func TestUpgrade(t *testing.T) {
	l := newLab(t)
	l.Static()
	config := l.TOML(bothMarks)
	l.MustMH("sync", "--config", config)
	want := l.State()
	check := noLeak(t, l)
	var stops []func() int
	for _, from := range []lab.Sender{
		{To: lab.Far4, Mark: mark}, {To: lab.Far6, Mark: mark}, {To: lab.Far4, Source: two4}, {To: lab.Far6, Source: two6},
	} {
		stops = append(stops, l.Stream(from))
	}
	const seed = 20261129
	random := rand.New(rand.NewSource(seed))
	killed := 0
	for range lab.Rounds(8) {
		l.Script(earlier)
		if old := l.State(); strings.Contains(old, "suppress_ifgroup") || strings.Contains(old, "192.0.2.0/24 dev up1 table 3221225994") {
			t.Fatalf("not as earlier versions had it:\n%s", old)
		}
		for range 4 {
			if runKilled(t, l, time.Duration(random.Intn(12000))*time.Microsecond, "sync", "--config", config) {
				killed++
			}
		}
		l.MustMH("sync", "--config", config)
		noDriftOf(t, l, config)
		wantEqual(t, "what stands after the upgrade", sortLines(l.State()), sortLines(want))
	}
	total := 0
	for _, stop := range stops {
		total += stop()
	}
	t.Logf("%d runs killed (seed %d), %d packets left", killed, seed, total)
	if killed == 0 {
		t.Error("no run was killed: nothing was proved")
	}
	check(total)
	l.MustMH("down", "--config", config)
	if got := l.Run("ip", "-o", "link", "show", "group", "77"); got != "" {
		t.Errorf("after down there is in the group:\n%s", got)
	}
}
