package watch

import (
	"testing"
	"time"
)

// paced has one look follow the other for 10 s, each with so much work and so much
// waiting. It returns how many there were, how many of them at once, and when the next
// one may begin after a second of quiet.
func paced(work, wait time.Duration) (looks, first int, waits time.Duration) {
	var p Pace
	now, used := ms(0), time.Duration(0)
	p.Looked(now, used)
	atOnce := true
	for now.Before(ms(10000)) {
		if at := p.Ready(now); at.After(now) {
			now, atOnce = at, false
			continue
		}
		now, used = now.Add(work+wait), used+work
		p.Looked(now, used)
		looks++
		if atOnce {
			first++
		}
	}
	now = now.Add(time.Second)
	return looks, first, p.Ready(now).Sub(now)
}

// TestPace: looks that follow each other without end take no more than their share;
// the first ones are made at once.
func TestPace(t *testing.T) {
	const look = 3 * time.Millisecond
	looks, first, waits := paced(look, 0)
	if share := look.Seconds() * float64(looks) / 10; share > paceShare+0.02 || share < paceShare-0.05 {
		t.Errorf("%.2f of a core", share)
	}
	if first < 15 {
		t.Errorf("%d looks were made at once", first)
	}
	if waits != 0 {
		t.Errorf("there is a pause of %s after a second of quiet", waits)
	}
}

// TestPaceOfWaiting: looks that wait for others, and work little, have no pause.
func TestPaceOfWaiting(t *testing.T) {
	if looks, first, _ := paced(time.Millisecond, 30*time.Millisecond); first != looks {
		t.Errorf("%d of %d looks were made at once", first, looks)
	}
}
