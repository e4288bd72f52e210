// Package fwmark says which marks exist, for whom, and what carries them.
//
// It is pure: the configuration's Intents and the kernel's standing Claims go
// in, effective Pins come out. It knows neither rules nor files.
package fwmark
