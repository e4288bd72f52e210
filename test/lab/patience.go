//go:build !guest

package lab

import "time"

// Patience bounds every wait of the lab.
const Patience = 15 * time.Second

// Slack is what a busy machine may take on top of a time that is promised.
const Slack = 2 * time.Second
