//go:build guest

package lab

import "time"

// Patience bounds every wait of the lab, in a machine that is emulated.
const Patience = time.Minute

// Slack is what such a machine may take on top of a time that is promised.
const Slack = 15 * time.Second

// Slowness is how many times as long programs take there.
const Slowness = 15

// Rounds returns how often a test does what it does n times elsewhere.
func Rounds(n int) int { return max(2, n/4) }
