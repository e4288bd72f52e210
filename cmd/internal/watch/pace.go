package watch

import "time"

// Looks are made at once. Only where one follows the other without end, as events
// come faster than they can be looked at, there is a pause between them, so that
// no more than paceShare of a core is taken over time.
const (
	paceShare = 0.4
	paceBurst = 60 * time.Millisecond // of looking, before there is any pause
)

// Pace tells how long to pause. The zero value has not looked yet.
type Pace struct {
	last time.Time
	debt time.Duration // looking that was not paid off yet, by time that has passed
}

// Looked notes a look that has ended now and took so long.
func (p *Pace) Looked(now time.Time, took time.Duration) {
	p.pay(now)
	p.debt += took
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
