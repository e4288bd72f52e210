package kernel

import (
	"fmt"
	"strconv"
	"testing"

	"wg-multihome/fwmark"
)

// BenchmarkSocketCost has the processor's time of a process for a datagram, and for
// a new socket with a datagram: in a cgroup without programs, beside one with, and
// in one. The rounds take turns, as a machine has better and worse seconds.
func BenchmarkSocketCost(b *testing.B) {
	h := newHost(b)
	cgroup := h.make("a")
	for _, what := range []string{"send", "new"} {
		b.Run(what, func(b *testing.B) {
			sums := map[string]int{}
			for range b.N {
				for name, run := range map[string]struct {
					cgroup string
					mark   fwmark.Mark
				}{"none": {"a", fwmark.Mark{}}, "beside": {"b", one}, "pinned": {"a", one}} {
					want := pins{}
					if !run.mark.IsZero() {
						want[cgroup] = run.mark
					}
					h.pin(want)
					ns, err := strconv.Atoi(h.start(run.cgroup).do("burst", what, 20000, at(far4, "9")))
					must(b, err)
					sums[name] += ns
				}
			}
			for name, sum := range sums {
				b.ReportMetric(float64(sum)/float64(b.N), fmt.Sprintf("cpu-ns-%s/op", name))
			}
		})
	}
}

// BenchmarkSocketGive gives 1000 older sockets a mark, and takes it from them.
func BenchmarkSocketGive(b *testing.B) {
	h := withCgroup(b)
	p := h.start("a")
	for i := range 1000 {
		p.do("socket", fmt.Sprint("s", i), "udp4")
	}
	b.ResetTimer()
	for range b.N {
		h.pin(pins{h.path("a"): one})
		h.pin(pins{})
	}
}

// BenchmarkSocketRun is a run that attaches all, and one that has nothing to do.
func BenchmarkSocketRun(b *testing.B) {
	h := withCgroup(b)
	cgroup := h.make("a")
	b.Run("attach", func(b *testing.B) {
		for range b.N {
			h.pin(pins{cgroup: one})
			h.pin(pins{})
		}
	})
	b.Run("nothing", func(b *testing.B) {
		h.pin(pins{cgroup: one})
		b.ResetTimer()
		for range b.N {
			_, err := h.client.Read([]string{cgroup}, false)
			must(b, err)
		}
	})
	h.pin(pins{})
}
