// Package host is the edge to the machine: it observes and makes steps, and
// decides nothing. Everything that a run learns comes from Observe, everything
// that it changes goes through Apply.
package host
