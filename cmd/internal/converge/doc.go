// Package converge is the program around the core: one pipeline that gathers
// facts, wants, opens, closes, reads again and tells.
//
// It decides nothing about rules, routes and marks (policy, fwmark and wg do),
// only in which order these are asked and their steps made.
package converge
