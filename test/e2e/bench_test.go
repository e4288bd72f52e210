package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// timed runs a command n times and returns the time of one.
func timed(b *testing.B, l *lab.Lab, n int, before func(), args ...string) time.Duration {
	b.Helper()
	var sum time.Duration
	for range n {
		if before != nil {
			before()
		}
		begun := time.Now()
		r := l.Try(nil, args...)
		sum += time.Since(begun)
		if r.Code != 0 {
			b.Fatalf("%v: exit status %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
		}
	}
	return sum / time.Duration(n)
}

// BenchmarkNothingToDo is a hook that finds nothing to do, as a whole process,
// beside `ip` showing the rules and routes that it reads. Both times have that
// of nsenter in them, which is given as well.
func BenchmarkNothingToDo(b *testing.B) {
	l := lab.New(b, binary)
	l.Static()
	l.Interfaces(pinned)
	l.MustMH("sync")
	const n = 50
	for range b.N {
		enter := timed(b, l, n, nil, "true")
		ours := timed(b, l, n, nil, binary, "sync")
		peer := timed(b, l, n, nil, "sh", "-c", "ip rule; ip -6 rule; ip route; ip -6 route; ip link; ip addr")
		b.ReportMetric(float64(ours.Microseconds())/1000, "ms/sync")
		b.ReportMetric(float64(peer.Microseconds())/1000, "ms/ip")
		b.ReportMetric(float64(enter.Microseconds())/1000, "ms/nsenter")
		b.ReportMetric(float64(ours-enter)/float64(peer-enter), "sync/ip")
	}
}

// BenchmarkThousandAddresses makes the rules and routes of 1000 addresses from
// nothing, beside `ip -batch` with the same ones.
func BenchmarkThousandAddresses(b *testing.B) {
	l := lab.New(b, binary)
	var addresses, batch strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&addresses, "addr add 10.50.%d.%d/16 dev up1\n", i/250, i%250+1)
	}
	l.Write("/run/addresses", addresses.String(), 0o644)
	l.Run("ip", "-batch", "/run/addresses")
	config := l.TOML("[uplink.up1]\ngateway = \"10.50.200.1\"\n")
	for _, step := range strings.Split(strings.TrimSpace(l.MustMH("plan", "--config", config).Stdout), "\n") {
		words := strings.Fields(step)
		switch words[1] {
		case "route":
			fmt.Fprintf(&batch, "route replace table %s %s proto 77\n", words[3], strings.Join(words[4:], " "))
		case "rule":
			fmt.Fprintf(&batch, "rule add pref %s %s protocol 77\n", words[3], strings.Join(words[4:], " "))
		}
	}
	l.Write("/run/batch", batch.String(), 0o644)
	l.MustMH("sync", "--config", config) // tells, once
	clean := func() { l.MustMH("down", "--config", config) }
	const n = 5
	for range b.N {
		ours := timed(b, l, n, clean, binary, "sync", "--config", config)
		peer := timed(b, l, n, clean, "ip", "-batch", "/run/batch")
		clean()
		b.ReportMetric(float64(ours.Microseconds())/1000, "ms/sync")
		b.ReportMetric(float64(peer.Microseconds())/1000, "ms/batch")
		b.ReportMetric(float64(ours)/float64(peer), "sync/batch")
	}
}
