package main

import (
	"errors"
	"time"
)

// An event is what befalls both hosts at the same time. length is that of the event.
type event struct {
	what string
	do   func(h *host, length time.Duration) error
}

// kills is how many hooks are killed.
const kills = 16

// restart is after what time systemd starts watch again (RestartSec=).
const restart = time.Second

// Two addresses that ISP 2 gives.
const one2, other2 = "198.51.100.10", "198.51.100.77"

var events = []event{
	{"up1 gets its first lease", func(h *host, _ time.Duration) error { return h.bound("BOUND", 0, "192.0.2.10", 0) }},
	{"up2 gets its first lease", func(h *host, _ time.Duration) error { return h.bound("BOUND", up2, one2, 0) }},
	{"up2 is renumbered", func(h *host, _ time.Duration) error { return h.bound("RENEW", up2, other2, 0) }},
	{"up2's cable is pulled", func(h *host, _ time.Duration) error { return h.plug(up2, false) }},
	{"up2's lease expires", func(h *host, _ time.Duration) error { return h.expired(up2) }},
	{"up2 is plugged in, and has a lease", func(h *host, _ time.Duration) error {
		return errors.Join(h.plug(up2, true), h.bound("BOUND", up2, one2, 0))
	}},
	{"someone deletes the rules", func(h *host, _ time.Duration) error { return h.deleteRules() }},
	{"up2's lease is renewed", func(h *host, _ time.Duration) error { return h.bound("RENEW", up2, one2, 0) }},
	{"kill -9 of hooks, 16 times", killHooks},
	{"up2's lease is renewed", func(h *host, _ time.Duration) error { return h.bound("RENEW", up2, h.leases[up2], 0) }},
	{"kill -9 of watch, rules deleted", func(h *host, length time.Duration) error {
		if h.keeper.killed == nil {
			return h.deleteRules()
		}
		return h.keeper.killed(h, min(restart, length/2))
	}},
	{"up2's lease is renewed", func(h *host, _ time.Duration) error { return h.bound("RENEW", up2, h.leases[up2], 0) }},
}

// killHooks kills hooks one after the other, each a bit later in its work, by the time
// that the fastest of some takes that are let end.
func killHooks(h *host, length time.Duration) error {
	renumber := func(kill time.Duration) error {
		address := one2
		if h.leases[up2] == one2 {
			address = other2
		}
		return h.bound("RENEW", up2, address, kill)
	}
	whole := length
	for range 3 {
		if err := renumber(0); err != nil {
			return err
		}
		whole = min(whole, h.took)
	}
	tick := time.NewTicker(length / kills)
	defer tick.Stop()
	for k := range time.Duration(kills) {
		if err := renumber(whole * (2*k + 1) / (2 * kills)); err != nil {
			return err
		}
		<-tick.C
	}
	return nil
}
