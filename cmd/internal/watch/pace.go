package watch

import "time"

// Looks are made at once. Only where one follows the other without end, as events
// come faster than they can be looked at, there is a pause between them, so that
// the process takes no more than paceShare of a core over time. What a look waits
// for, others' transactions or their locks, costs nobody anything.
const (
	paceShare = 0.4
	paceBurst = 60 * time.Millisecond // of a core's time, before there is any pause
)

// Pace tells how long to pause. The zero value has not looked yet.
type Pace struct {
	last time.Time
	used time.Duration // of a core, by then
	debt time.Duration // what was used and not paid off yet, by time that has passed
}

// Looked notes a look that has ended now; used is what the process has used of a core
// so far.
func (p *Pace) Looked(now time.Time, used time.Duration) {
	if !p.last.IsZero() {
		p.debt += used - p.used
	}
	p.used = used
	p.pay(now)
}

// Ready returns when the next look may begin.
func (p *Pace) Ready(now time.Time) time.Time {
	p.pay(now)
	if p.debt <= paceBurst {
		return now
	}
	return now.Add(time.Duration(float64(p.debt-paceBurst) / paceShare))
}

func (p *Pace) pay(now time.Time) {
	if !p.last.IsZero() {
		p.debt = max(0, p.debt-time.Duration(paceShare*float64(now.Sub(p.last))))
	}
	p.last = now
}
