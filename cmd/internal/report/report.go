// Package report says how a run ended, and with which exit status.
package report

import (
	"errors"
	"slices"

	"wg-multihome/fwmark"
)

// Report is how a run ended.
type Report struct {
	Problems []fwmark.Problem // of the configuration
	Errs     []error          // steps that failed, each by name, and what kept others from being tried
	Refused  bool             // what was asked for is bad, and said to be so
}

// Failed is a report of one error.
func Failed(err error) Report { return Report{Errs: []error{err}} }

// Add adds an error, once: that of a transaction is met with each of its steps.
func (r *Report) Add(err error) {
	if !slices.ContainsFunc(r.Errs, func(said error) bool { return said.Error() == err.Error() }) {
		r.Errs = append(r.Errs, err)
	}
}

// Is reports whether one of the errors is target.
func (r Report) Is(target error) bool { return errors.Is(errors.Join(r.Errs...), target) }

// The exit statuses.
const (
	Done  = 0
	Error = 1 // a step failed; the others were done
	Usage = 2 // bad usage, a bad event, or bad configuration
	Drift = 3 // asked for with --exit-code
)

// Status returns the exit status: what was refused, and bad configuration, win over
// failed steps.
func (r Report) Status() int {
	switch {
	case r.Refused, len(r.Problems) > 0:
		return Usage
	case len(r.Errs) > 0:
		return Error
	}
	return Done
}
