// Package tell has tunnels refreshed and hooks run for what is new: after a run
// has converged and let go of the lock, from an observation of its own. What
// was told is written down last, so that no kill loses an event.
package tell
