//go:build guest

package lab

import "time"

// Patience bounds every wait of the lab, in a machine that is emulated.
const Patience = 2 * time.Minute

// Slack is what such a machine may take on top of a time that is promised: how it shares
// its processor with others says more of that than what is tested. Times are kept outside.
const Slack = time.Minute

// Slowness is how many times as long programs take there.
const Slowness = 15

// Rounds returns how often a test does what it does n times elsewhere.
func Rounds(n int) int { return max(2, n/4) }
