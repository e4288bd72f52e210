package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"wg-multihome/cmd/internal/watch"
)

// Watch counts what watch does. It is a watch.Meter.
type Watch struct {
	convergences, mended   *prometheus.CounterVec
	seconds                prometheus.Histogram
	overruns, intervalMend prometheus.Counter
}

// NewWatch begins to count, and has r tell it.
func NewWatch(r prometheus.Registerer) (*Watch, error) {
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}
	}
	w := &Watch{
		convergences: prometheus.NewCounterVec(counter("convergences_total", "Looks at the host, by what made them: start, event, interval, overrun, resume, hangup, configuration, retry."), []string{"cause"}),
		mended:       prometheus.NewCounterVec(counter("mended_total", "Steps that have put back what was wanted, by what it is and by what it was taken."), []string{"kind", "by"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "convergence_seconds", Help: "How long a look took, with what it put.",
			Buckets: []float64{.0005, .001, .002, .004, .008, .016, .032, .064, .128, .256, .512, 1, 5},
		}),
		overruns:     prometheus.NewCounter(counter("netlink_overruns_total", "How often the kernel told more than could be taken in.")),
		intervalMend: prometheus.NewCounter(counter("interval_mends_total", "Looks of the interval that have found what no event told: a defect.")),
	}
	for _, c := range []prometheus.Collector{w.convergences, w.mended, w.seconds, w.overruns, w.intervalMend} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// Converged counts a look.
func (w *Watch) Converged(cause string, took time.Duration, _ watch.Result) {
	w.convergences.WithLabelValues(cause).Inc()
	w.seconds.Observe(took.Seconds())
}

// Mended counts a step.
func (w *Watch) Mended(kind, by string) { w.mended.WithLabelValues(kind, by).Inc() }

// MendedByInterval counts a look of the interval that had something to put.
func (w *Watch) MendedByInterval() { w.intervalMend.Inc() }

// Overrun counts messages that were lost.
func (w *Watch) Overrun(times int) { w.overruns.Add(float64(times)) }

var _ watch.Meter = (*Watch)(nil)
