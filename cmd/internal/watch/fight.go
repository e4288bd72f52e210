package watch

import (
	"slices"
	"time"
)

// What counts as a fight. Each object has a back-off of its own: what others take
// from us again and again is put back more slowly, and all else at once.
const (
	fightWithin = 200 * time.Millisecond // taken again so soon
	fightRow    = 3                      // so often in a row
	backoffMin  = 50 * time.Millisecond
	backoffMax  = time.Second
	peaceAfter  = 10 * time.Second // not taken for so long: forgotten
)

// maxFights bounds how many objects are remembered; those that were put longest
// ago are forgotten first.
const maxFights = 4096

// Fights remembers what was put and taken again. The zero value knows of nothing.
type Fights struct {
	objects map[string]*fight // by what the step that was made last was about
}

type fight struct {
	step    string        // that was made last
	put     time.Time     // when it was
	missed  time.Time     // when what it puts was first seen to be taken since; zero: it was not
	row     int           // how often in a row it was taken at once
	backoff time.Duration // how long it is left then; 0: it is put at once
	free    bool          // this time nobody else has taken it
	said    bool
}

// Put notes that a step was made.
func (f *Fights) Put(now time.Time, step string) {
	if f.objects == nil {
		f.objects = map[string]*fight{}
	}
	o := f.objects[object(step)]
	if o == nil {
		f.shrink()
		o = &fight{}
		f.objects[object(step)] = o
	}
	o.step, o.put, o.missed = step, now, time.Time{}
}

// shrink makes room for one more.
func (f *Fights) shrink() {
	for len(f.objects) >= maxFights {
		var oldest string
		for key, o := range f.objects {
			if oldest == "" || o.put.Before(f.objects[oldest].put) {
				oldest = key
			}
		}
		delete(f.objects, oldest)
	}
}

// Holds reports whether a step that is to be made is left for later: what it puts
// was taken again and again. others says that somebody else may have taken it, and not
// the kernel. Nobody has where we have taken it away since, or put another thing in its
// place: then that step is the last one.
func (f *Fights) Holds(now time.Time, step string, others bool) bool {
	o := f.objects[object(step)]
	if o == nil || o.step != step {
		return false
	}
	if o.missed.IsZero() {
		o.missed, o.free = now, !others
		if others {
			o.taken(now.Sub(o.put))
		}
	}
	return o.held() && now.Before(o.missed.Add(o.backoff))
}

func (o *fight) held() bool { return o.row >= fightRow && !o.free }

// taken counts a time that it was taken, so long after it was put.
func (o *fight) taken(after time.Duration) {
	switch {
	case after >= peaceAfter:
		o.row, o.backoff, o.said = 0, 0, false
		return
	case after >= fightWithin:
		o.row = 0
		return
	}
	o.row++
	if o.row >= fightRow {
		o.backoff = min(max(2*o.backoff, backoffMin), backoffMax)
	}
}

// Next returns when the first of what is held is to be put; the zero time where
// nothing is.
func (f *Fights) Next() time.Time {
	var next time.Time
	for _, o := range f.objects {
		if o.missed.IsZero() || !o.held() {
			continue
		}
		if at := o.missed.Add(o.backoff); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// Settled forgets what is wanted no longer, or was found to stand: steps are those
// that were left for later by the last look.
func (f *Fights) Settled(steps []string) {
	for _, o := range f.objects {
		if !o.missed.IsZero() && !slices.Contains(steps, o.step) {
			o.missed = time.Time{}
		}
	}
}

// News returns the steps that are in a fight since it was asked last, sorted.
func (f *Fights) News() []string {
	var list []string
	for _, o := range f.objects {
		if o.row >= fightRow && !o.said {
			o.said = true
			list = append(list, o.step)
		}
	}
	slices.Sort(list)
	return list
}

// Active returns how many objects are in a fight.
func (f *Fights) Active() int {
	n := 0
	for _, o := range f.objects {
		if o.row >= fightRow {
			n++
		}
	}
	return n
}

// Forget forgets what nobody has taken for a while.
func (f *Fights) Forget(now time.Time) {
	for key, o := range f.objects {
		if o.missed.IsZero() && now.Sub(o.put) >= peaceAfter {
			delete(f.objects, key)
		}
	}
	if len(f.objects) == 0 {
		f.objects = nil // a map does not shrink
	}
}
