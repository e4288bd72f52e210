package watch

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/events"
	"wg-multihome/cmd/internal/logging"
	"wg-multihome/cmd/internal/report"
)

// What the loop waits for.
const (
	// lockWait bounds how long it waits for the lock at a time; then it says that it
	// lives, and waits on.
	lockWait = 5 * time.Second

	// backWithin is how long an uplink's address may be away until the next one is
	// told: clients take an address away and put it back.
	backWithin = 100 * time.Millisecond

	// feedEvery bounds how often the watchdog is fed, unless its time is short.
	feedEvery = 10 * time.Second

	// idle is when a loop without anything to do looks whether it has: with the next
	// interval at the latest.
	idle = 24 * time.Hour

	// retryMin and retryMax bound when what has failed is tried again.
	retryMin = time.Second
	retryMax = time.Minute
)

// Request is what a look goes by.
type Request struct {
	Known  decide.Observation // by the last look
	Fresh  decide.Parts       // parts of it that nothing has changed since; 0: read all anew
	Person bool               // guards of marks that are configured no longer go
	Wait   time.Duration      // for the lock
	Hold   func(decide.Decision, decide.Step) bool
}

// Result is what came of it.
type Result struct {
	Busy     bool // another run held the lock for all of the time: nothing was done
	Known    bool // the host could be read; else there is no decision
	Decision decide.Decision
	Report   report.Report
	Made     []string // steps
}

// Looker looks at the host, and brings it to what is wanted.
type Looker interface {
	Look(context.Context, Request) Result
}

// Hearer hears of changes: *events.Source.
type Hearer interface {
	Ready() <-chan struct{}
	Err() error
	Take() events.Heard
	Follow(events.Interest) error
}

// Poller looks at what tells of no change by itself.
type Poller interface {
	Follow(decide.Decision)
	Found() <-chan events.Heard
	Due() <-chan Refresh
}

// Refresh names tunnels that are to be refreshed for their stale handshakes.
type Refresh struct {
	Devices []string
	Names   bool // endpoints' names are to be looked up as well
}

// Teller tells hooks and tunnels.
type Teller interface {
	// Pending returns what is to be told, and the devices that are due.
	Pending(decide.Decision) (news []decide.News, due []string)
	Tell(context.Context, decide.Decision) []error
	Refresh(context.Context, Refresh) []error
}

// Loop is the watch. All fields are to be set.
type Loop struct {
	Looker   Looker
	Hearer   Hearer
	Poller   Poller
	Teller   Teller
	Meter    Meter
	Clock    Clock
	Log      *logging.Logger
	Interval time.Duration
	Watchdog time.Duration // within which systemd wants to hear that it lives; 0: it does not
	Hangup   <-chan os.Signal
	Notify   func(state string)                                // sd_notify(3)
	Tidy     func()                                            // gives memory back, after quiet
	Places   func(d decide.Decision, full bool) []events.Place // to be heard of
	Texts    []string                                          // the files that in-force.json names, which Run begins with; nil: none was noted

	hold Hold
	pace Pace

	known   decide.Observation
	looked  bool            // known is
	last    decide.Decision // lean
	more    events.Heard    // beside what the hearer has
	pending bool            // it has something
	full    string          // why all is to be read; "": it need not
	person  bool

	nextFull  time.Time
	retryAt   time.Time // zero: nothing has failed
	retryWait time.Duration
	fed       time.Time
	tidyAt    time.Time // when nothing will have happened for a while; zero: it was tidied since
	slept     time.Duration
	ready     bool
	status    string

	said      map[string]bool // what was logged, and is so still
	changedAt time.Time       // when the configuration was read that stands
	personAt  time.Time       // when what is configured no longer goes; zero: never
	personFor string          // the problems that such a look has left
	texts     []string        // files that had text, of which something may stand; nil: that is not known

	tells tells
}

// Run watches until ctx ends, and leaves everything in place. An error says why
// nothing can be heard any more.
func (l *Loop) Run(ctx context.Context) error {
	l.said, l.texts, l.slept, l.full = map[string]bool{}, slices.Clone(l.Texts), l.Clock.Suspended(), "start"
	l.tells.done = make(chan []error, 1)
	defer l.tells.wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := l.Clock.Now()
		l.due(now)
		if l.wanted() && !l.pace.Ready(now).After(now) {
			l.look(ctx)
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		l.tellAt(ctx, now)
		l.feed(now)
		l.tidy(now)
		timer.Reset(l.next(now).Sub(now))
		select {
		case <-ctx.Done():
			return nil
		case <-l.Hearer.Ready():
			if err := l.Hearer.Err(); err != nil {
				return err
			}
			l.pending = true
		case h := <-l.Poller.Found():
			l.more.Add(h)
		case r := <-l.Poller.Due():
			l.refresh(ctx, r)
		case <-l.Clock.Changed():
			l.woken()
		case <-l.Hangup:
			l.full = "hangup"
		case errs := <-l.tells.done:
			l.told(errs)
		case <-timer.C:
		}
	}
}

// wanted reports whether there is a reason to look.
func (l *Loop) wanted() bool { return l.pending || l.more.Any() || l.full != "" }

// due makes reasons of times that have come.
func (l *Loop) due(now time.Time) {
	come := func(at time.Time) bool { return !at.IsZero() && !now.Before(at) }
	switch {
	case l.full != "":
	case come(l.personAt):
		l.full, l.person = "configuration", true
	case come(l.nextFull):
		l.full = "interval"
	case come(l.retryAt):
		l.full = "retry"
	}
	if come(l.hold.Next()) {
		l.more.Add(events.Heard{Stale: decide.Routing | decide.WireGuard | decide.Interfaces | decide.Nftables | decide.Services | decide.Programs | decide.Settings})
	}
}

// next returns when the loop has something to do by itself.
func (l *Loop) next(now time.Time) time.Time {
	next := now.Add(idle)
	if l.Watchdog > 0 {
		next = l.fed.Add(l.Watchdog / 3)
	}
	for _, at := range []time.Time{l.nextFull, l.retryAt, l.personAt, l.hold.Next(), l.tells.at, l.tidyAt} {
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	if ready := l.pace.Ready(now); l.wanted() && ready.Before(next) {
		next = ready
	}
	return next
}

// feed says that the loop works.
func (l *Loop) feed(now time.Time) {
	if l.Watchdog > 0 && now.Sub(l.fed) >= l.within(feedEvery) {
		l.fed = now
		l.Notify("WATCHDOG=1")
	}
}

// within shortens a wait, so that the watchdog is fed three times within its own time.
func (l *Loop) within(d time.Duration) time.Duration {
	if l.Watchdog > 0 {
		return min(d, l.Watchdog/3)
	}
	return d
}

// tidy forgets what is over, and gives back the memory that looks took, once there was
// none for so long that no fight is remembered. By itself the garbage collector does so
// bit by bit, for minutes, and wakes up each time.
func (l *Loop) tidy(now time.Time) {
	if l.tidyAt.IsZero() || now.Before(l.tidyAt) {
		return
	}
	l.tidyAt = time.Time{}
	l.hold.Forget(now)
	l.Tidy()
}

// woken looks at all that a suspend may have changed; a clock that was set changes
// nothing.
func (l *Loop) woken() {
	slept := l.Clock.Suspended()
	const jump = 500 * time.Millisecond
	if slept-l.slept >= jump {
		l.Log.Infof("woken up after %s", (slept - l.slept).Round(time.Second))
		l.full, l.tells.all = "resume", true
	}
	l.slept = slept
}

// look looks at the host once, and brings it to what is wanted.
func (l *Loop) look(ctx context.Context) {
	cause, person := l.full, l.person
	heard := l.more
	l.more, l.pending, l.full, l.person = events.Heard{}, false, "", false
	heard.Add(l.Hearer.Take())
	switch {
	case heard.Overruns > 0:
		l.Meter.Overrun(heard.Overruns)
		l.Log.Infof("the kernel told more than could be taken in: all is looked at")
		cause = "overrun"
	case cause == "":
		cause = "event"
	}
	l.meet(heard)
	request := Request{Known: l.known, Person: person, Wait: l.within(lockWait)}
	if cause == "event" && l.looked {
		request.Fresh = decide.Everything &^ heard.Stale &^ (decide.Configuration | decide.Leases)
	}
	r, began := l.wait(ctx, request, heard)
	now := l.Clock.Now()
	l.pace.Looked(now, l.Clock.Used())
	l.tidyAt = now.Add(peaceAfter)
	if ctx.Err() != nil {
		return
	}
	l.Meter.Converged(cause, now.Sub(began), r)
	l.took(ctx, cause, heard, r, now)
}

// meet notes the devices that have come.
func (l *Loop) meet(h events.Heard) {
	if !l.looked {
		return
	}
	now := l.Clock.Now()
	for _, c := range h.Causes {
		known := false
		for i := range l.known.Facts.Links {
			known = known || l.known.Facts.Links[i].Name == c.Device
		}
		if c.Kind == events.Link && !c.Gone && !known {
			l.hold.Born(now, c.Device)
		}
	}
}

// wait makes the request until the lock was had, and returns when that was.
func (l *Loop) wait(ctx context.Context, request Request, heard events.Heard) (Result, time.Time) {
	for {
		began := l.Clock.Now()
		l.hold.Begin(began, heard)
		request.Hold = func(d decide.Decision, s decide.Step) bool { return l.hold.Holds(l.Clock.Now(), d, s) }
		r := l.Looker.Look(ctx, request)
		if !r.Busy || ctx.Err() != nil {
			return r, began
		}
		l.say([]error{fmt.Errorf("another run holds the lock for %s", request.Wait)})
		l.feed(l.Clock.Now())
	}
}

// took takes a look's result.
func (l *Loop) took(ctx context.Context, cause string, heard events.Heard, r Result, now time.Time) {
	if !r.Known {
		l.say(r.Report.Errs)
		l.looked = false
		l.hold.Settled(nil) // all is looked at again
		l.retry(now)
		return
	}
	d := r.Decision
	l.follow(d, cause != "event")
	l.hold.End(now, d)
	l.mended(cause, heard, r, now)
	l.configured(d, cause == "configuration", now)
	l.say(problems(r.Report))
	if len(r.Report.Errs) > 0 {
		l.retry(now)
	} else {
		l.retryAt, l.retryWait = time.Time{}, 0
	}
	if cause != "event" || l.nextFull.IsZero() {
		l.nextFull = now.Add(l.Interval)
	}
	l.known, l.last, l.looked = d.Observation, d.Lean(), true
	l.state(d, heard, r, now)
	l.news(ctx, now, cause != "event")
}

// retry has all be tried again, each time later.
func (l *Loop) retry(now time.Time) {
	l.retryWait = min(max(2*l.retryWait, retryMin), retryMax)
	l.retryAt = now.Add(l.retryWait)
}

// follow has be heard what matters by a decision.
func (l *Loop) follow(d decide.Decision, full bool) {
	i := Interest(d)
	i.Again = full
	i.Places = l.Places(d, full)
	if err := l.Hearer.Follow(i); err != nil {
		l.say([]error{fmt.Errorf("hear of files: %w", err)})
	}
	l.Poller.Follow(d)
}

// mended says and counts what was put.
//
// Something may have been taken while the look went on, and put by it: what was
// heard meanwhile tells by whom. It is looked at all the same.
func (l *Loop) mended(cause string, heard events.Heard, r Result, now time.Time) {
	if len(r.Made) > 0 {
		meanwhile := l.Hearer.Take()
		l.more.Add(meanwhile)
		heard.Causes = append(heard.Causes, meanwhile.Causes...)
	}
	for _, step := range r.Made {
		l.hold.Put(now, step)
		if l.looked {
			l.Meter.Mended(Kind(step), By(heard, step))
		}
	}
	if cause == "interval" && len(r.Made) > 0 {
		l.Meter.MendedByInterval()
		l.Log.Errorf("the look of each %s has found what no event told, a defect that we ask you to report: %s", l.Interval, strings.Join(r.Made[:min(len(r.Made), 8)], "; "))
	}
	fights := l.hold.News()
	for _, step := range fights[:min(len(fights), 8)] {
		l.Log.Errorf("%q is taken away again and again, by %s: it is put back more and more slowly, each second at last; the second lock holds meanwhile", step, Party(heard, step))
	}
}
