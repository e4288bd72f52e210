// Package converge is the loop that brings a host to what is decided: observe,
// decide, make the steps of each phase in its order, observe again.
//
// It knows nothing of that order and of what the steps are; decide does.
package converge
