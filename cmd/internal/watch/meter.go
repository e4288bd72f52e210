package watch

import "time"

// Meter counts.
type Meter interface {
	Converged(cause string, took time.Duration, r Result)
	Mended(kind, by string)
	MendedByInterval()
	Overrun(times int)
}

// NoMeter counts nothing.
type NoMeter struct{}

// Converged counts nothing, and so do the others.
func (NoMeter) Converged(string, time.Duration, Result) {}

// Mended counts nothing.
func (NoMeter) Mended(string, string) {}

// MendedByInterval counts nothing.
func (NoMeter) MendedByInterval() {}

// Overrun counts nothing.
func (NoMeter) Overrun(int) {}
