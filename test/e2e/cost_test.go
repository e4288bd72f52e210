package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// costConfig writes a configuration that pins so many cgroups, and returns the
// file's name.
func costConfig(l *lab.Lab, cgroup string, number int) string {
	list := []string{fmt.Sprintf("%q", cgroup)}
	for i := 1; i < number; i++ {
		list = append(list, fmt.Sprintf("%q", l.MakeCgroup(fmt.Sprintf("many.slice/%d.service", i))))
	}
	path := fmt.Sprintf("/run/cost-%d.toml", number)
	l.Write(path, "[uplink.up2]\nfwmark = 0x2005\nmarking = \"packet\"\ncgroups = ["+strings.Join(list, ", ")+"]\n", 0o644)
	return path
}

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

// BenchmarkManyCgroups pins 2000 cgroups from nothing, as a whole process, and
// finds nothing to do after that.
func BenchmarkManyCgroups(b *testing.B) {
	l := lab.New(b, binary)
	l.Static()
	const n, cgroups = 5, 2000
	few, many := costConfig(l, l.MakeCgroup("a.service"), 1), costConfig(l, l.MakeCgroup("b.service"), cgroups)
	l.MustMH("sync", "--config", few) // tells, once
	for range b.N {
		clean := func() { l.MustMH("down") }
		b.ReportMetric(timed(b, l, n, clean, binary, "sync", "--config", few).Seconds()*1000, "ms/1-cgroup")
		b.ReportMetric(timed(b, l, n, clean, binary, "sync", "--config", many).Seconds()*1000, "ms/2000-cgroups")
		b.ReportMetric(timed(b, l, n, nil, binary, "sync", "--config", many).Seconds()*1000, "ms/2000-again")
	}
	b.ReportMetric(0, "ns/op") // a run of all is no figure
}
