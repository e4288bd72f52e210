package converge

import (
	"errors"
	"io/fs"
	"slices"

	"wg-multihome/fwmark"
)

// Report is how a run ended.
type Report struct {
	Problems []fwmark.Problem // of the configuration
	Errs     []error          // steps that failed, each by name, and what kept others from being tried
}

// add adds an error, once: that of a transaction is met with each of its steps.
func (r *Report) add(err error) {
	if !slices.ContainsFunc(r.Errs, func(said error) bool { return said.Error() == err.Error() }) {
		r.Errs = append(r.Errs, err)
	}
}

// Exit statuses.
const (
	Done   = 0
	Failed = 1 // a step failed; the others were done
	Usage  = 2 // bad usage, a bad event, or bad configuration
	Drift  = 3 // asked for with --exit-code
)

// Status returns the exit status: bad configuration wins over failed steps.
func (r Report) Status() int {
	switch {
	case len(r.Problems) > 0:
		return Usage
	case len(r.Errs) > 0:
		return Failed
	}
	return Done
}

// permissionOnce leaves one of many errors of permission: where the caller may
// not ask, the kernel says so for each name.
func permissionOnce(errs []error) []error {
	var kept []error
	denied := false
	for _, err := range errs {
		if errors.Is(err, fs.ErrPermission) {
			if denied {
				continue
			}
			denied = true
		}
		kept = append(kept, err)
	}
	return kept
}
