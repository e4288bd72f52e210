//go:build !guest

package lab

import "time"

// Patience bounds every wait of the lab.
const Patience = 15 * time.Second

// Slack is what a busy machine may take on top of a time that is promised.
const Slack = 5 * time.Second

// Slowness is how many times as long programs take as on a common machine.
const Slowness = 1

// Rounds returns how often a test does what is to be done n times.
func Rounds(n int) int { return n }
