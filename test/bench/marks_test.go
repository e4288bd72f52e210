package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

func TestMain(m *testing.M) {
	if lab.Main() {
		return
	}
	os.Exit(m.Run())
}

// tracked is where a firewall asks conntrack, and nobody is pinned.
const tracked = "tracked"

// BenchmarkMarks has the processor's time of a process per operation, where it is
// pinned and where another one is, by either way of marking, as a multiple of what it
// is where nobody is pinned: rules and second lock alone; and beside marked packets, of
// what it is where a firewall has conntrack follow all connections anyhow. Rounds take
// turns, and the figures are medians over b.N of them (-benchtime 14x): others use the
// machine too.
//
// The operations are a datagram of one socket, a socket with one datagram, and a
// socket with a TCP connection. Routers drop the datagrams at once.
func BenchmarkMarks(b *testing.B) {
	l := lab.New(b, built(b))
	l.Static()
	for _, isp := range []*lab.Namespace{l.ISP1, l.ISP2} {
		isp.Script("nft add table netdev sink; nft add chain netdev sink in '{ type filter hook ingress device home priority 0; }'; nft add rule netdev sink in udp dport 9 drop")
	}
	l.Server(l.Far, "", "tcp", lab.Far4, 70)

	service := l.MakeCgroup("a.service")
	setups := []struct {
		name, cgroups, marking, from string
		of                           string // a multiple of what that takes
	}{
		{"alone", "", "socket", "", "alone"},
		{"beside-sockets", service, "socket", "", "alone"},
		{"pinned-by-socket", service, "socket", service, "alone"},
		{"beside-packets", service, "packet", "", "alone"},
		{"pinned-by-packet", service, "packet", service, "alone"},
		{tracked, "", "socket", "", tracked},
		{tracked + "-beside-packets", service, "packet", "", tracked},
	}
	operations := []lab.Cost{
		{What: "send", To: lab.Far4, Port: 9, Count: 20000},
		{What: "new", To: lab.Far4, Port: 9, Count: 5000},
		{What: "connect", To: lab.Far4, Port: 70, Count: 1000},
	}
	taken := map[string][]time.Duration{}
	for range b.N {
		for _, s := range setups {
			if s.of == tracked {
				l.Run("nft", "table inet firewall { chain out { type filter hook output priority 0; ct state invalid drop; }; chain in { type filter hook input priority 0; ct state invalid drop; }; }")
			}
			l.MustMH("sync", "--config", marksConfig(l, s.marking, s.cgroups))
			for _, o := range operations {
				o.Cgroup = s.from
				key := s.name + "/" + o.What
				taken[key] = append(taken[key], l.Cost(o))
			}
			l.Script(l.Binary + " down; nft flush ruleset")
		}
	}
	b.ReportMetric(0, "ns/op") // a run of all is no figure
	for key := range taken {
		slices.Sort(taken[key])
	}
	middle := func(key string) float64 { return float64(taken[key][len(taken[key])/2]) }
	for _, s := range setups {
		for _, o := range operations {
			key := s.name + "/" + o.What
			b.ReportMetric(middle(key), "ns-"+key)
			b.ReportMetric(middle(key)/middle(s.of+"/"+o.What), "x-"+key)
		}
	}
}

// marksConfig writes a configuration that pins a cgroup where one is given, and
// returns the file's name.
func marksConfig(l *lab.Lab, marking, cgroup string) string {
	list := ""
	if cgroup != "" {
		list = fmt.Sprintf("cgroups = [%q]\n", cgroup)
	}
	return l.TOML(fmt.Sprintf("marking = %q\n[uplink.up2]\nfwmark = 0x2005\n%s", marking, list))
}

// built builds the program.
func built(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "wg-multihome")
	build := exec.Command("go", "build", "-o", path, "wg-multihome/cmd/wg-multihome")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}
