//go:build guest

package lab

import "time"

// Patience bounds every wait of the lab, in a machine that is emulated.
const Patience = time.Minute

// Slack is what such a machine may take on top of a time that is promised.
const Slack = 15 * time.Second
