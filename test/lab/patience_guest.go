//go:build guest

package lab

import "time"

// Patience bounds every wait of the lab, in a machine that is emulated.
const Patience = time.Minute
