//go:build !guest

package lab

import "time"

// Patience bounds every wait of the lab.
const Patience = 15 * time.Second
