package watch

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/events"
	"wg-multihome/cmd/internal/logging"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/policy"
)

// patience bounds each wait.
const patience = 20 * time.Second

// stand is a loop whose surroundings the test is.
type stand struct {
	t      *testing.T
	loop   *Loop
	cancel context.CancelFunc
	ended  chan error

	ready   chan struct{}
	changed chan struct{}
	hangup  chan os.Signal
	looks   chan Request
	results chan Result

	mu      sync.Mutex
	heard   events.Heard
	asleep  time.Duration
	notes   []string
	failing error
	rest    []Refresh
}

func (s *stand) Ready() <-chan struct{} { return s.ready }
func (s *stand) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing
}
func (s *stand) Take() events.Heard {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.heard
	s.heard = events.Heard{}
	return h
}
func (s *stand) Changed() <-chan struct{} { return s.changed }
func (s *stand) Now() time.Time           { return time.Now() }
func (s *stand) Used() time.Duration      { return 0 }
func (s *stand) Suspended() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asleep
}
func (s *stand) Look(ctx context.Context, q Request) Result {
	select {
	case s.looks <- q:
	case <-ctx.Done():
		return Result{}
	}
	select {
	case r := <-s.results:
		return r
	case <-ctx.Done():
		return Result{}
	}
}
func (s *stand) notify(state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, state)
}
func (s *stand) told(state string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.notes, state)
}

// follows is Follow of hearer, poller and teller.
type follows struct{ *stand }

func (follows) Follow(events.Interest) error { return nil }

type poller struct{ *stand }

func (poller) Follow(decide.Decision)                                       {}
func (poller) Found() <-chan events.Heard                                   { return nil }
func (poller) Due() <-chan Refresh                                          { return nil }
func (s *stand) Pending(decide.Decision) (news []decide.News, due []string) { return nil, nil }
func (s *stand) Tell(context.Context, decide.Decision) []error              { return nil }
func (s *stand) Refresh(_ context.Context, r Refresh) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest = append(s.rest, r)
	return nil
}

func newStand(t *testing.T, interval time.Duration) *stand {
	t.Helper()
	return guardedStand(t, interval, time.Minute)
}

// guardedStand is one with another watchdog.
func guardedStand(t *testing.T, interval, watchdog time.Duration) *stand {
	t.Helper()
	s := &stand{
		t: t, ready: make(chan struct{}, 1), changed: make(chan struct{}), hangup: make(chan os.Signal), looks: make(chan Request),
		results: make(chan Result), ended: make(chan error, 1),
	}
	s.loop = &Loop{
		Looker: s, Hearer: follows{s}, Poller: poller{s}, Teller: s, Meter: NoMeter{}, Clock: s, Log: logging.Discard(), Interval: interval, Watchdog: watchdog,
		Hangup: s.hangup, Notify: s.notify, Tidy: func() {}, Places: func(decide.Decision, bool) []events.Place { return nil },
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() { s.ended <- s.loop.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-s.ended:
		case <-time.After(patience):
			t.Error("the loop does not end")
		}
	})
	return s
}

// look waits for a look, and answers it.
func (s *stand) look(what string, r Result) Request {
	s.t.Helper()
	select {
	case q := <-s.looks:
		s.results <- r
		return q
	case <-time.After(patience):
		s.t.Fatalf("no look: %s", what)
	}
	return Request{}
}

// quiet makes sure that the loop waits: it takes a signal, and looks for that alone.
func (s *stand) quiet(what string) {
	s.t.Helper()
	select {
	case q := <-s.looks:
		s.t.Fatalf("%s: a look, with %s fresh", what, q.Fresh)
	case s.hangup <- os.Interrupt:
	case <-time.After(patience):
		s.t.Fatalf("%s: the loop is stuck", what)
	}
	if q := s.look("hangup", well()); q.Fresh != 0 {
		s.t.Fatalf("%s: at SIGHUP %s is not read anew", what, q.Fresh)
	}
}

func (s *stand) hear(h events.Heard) {
	s.mu.Lock()
	s.heard.Add(h)
	s.mu.Unlock()
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// well is a look that has found nothing to do.
func well(made ...string) Result {
	r := Result{Known: true, Made: made}
	r.Decision.Facts.Links = []policy.Link{{Name: "lo"}}
	return r
}

// TestLooks: at the start all is read, at an event what it makes stale.
func TestLooks(t *testing.T) {
	s := newStand(t, time.Hour)
	if q := s.look("start", well()); q.Fresh != 0 || q.Person {
		t.Errorf("%+v", q)
	}
	s.quiet("after the start")
	if !s.told("READY=1") {
		t.Error("systemd is not told that it is ready")
	}
	s.hear(events.Heard{Stale: decide.Routing, Changes: 1})
	if q := s.look("a rule", well()); q.Fresh != decide.Everything&^(decide.Routing|decide.Configuration|decide.Leases) {
		t.Errorf("at a rule %s is fresh", q.Fresh)
	}
	s.hear(events.Heard{Stale: decide.Everything, Overruns: 1})
	if q := s.look("an overrun", well()); q.Fresh != 0 {
		t.Errorf("at an overrun %s is fresh", q.Fresh)
	}
	s.quiet("after all")
}

// TestWhatComesMeanwhile: what comes while a look goes on is one more look.
func TestWhatComesMeanwhile(t *testing.T) {
	s := newStand(t, time.Hour)
	s.look("start", well())
	s.hear(events.Heard{Stale: decide.Routing})
	<-s.looks
	for range 5 {
		s.hear(events.Heard{Stale: decide.Nftables})
	}
	s.results <- well()
	if q := s.look("what came meanwhile", well()); q.Fresh.Has(decide.Nftables) || !q.Fresh.Has(decide.Routing) {
		t.Errorf("%s is fresh", q.Fresh)
	}
	s.quiet("after one more look")
}

// TestSuspend: the machine has slept, so all is looked at and tunnels are refreshed;
// a clock that was set changes nothing.
func TestSuspend(t *testing.T) {
	s := newStand(t, time.Hour)
	s.look("start", well())
	s.changed <- struct{}{} // the clock was set, and nothing slept
	s.quiet("a clock that was set")
	s.mu.Lock()
	s.asleep = time.Hour
	s.mu.Unlock()
	s.changed <- struct{}{}
	if q := s.look("the end of a suspend", well()); q.Fresh != 0 {
		t.Errorf("%s is fresh", q.Fresh)
	}
	until(t, "tunnels are refreshed", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.rest) == 1 && s.rest[0].Devices == nil
	})
	s.changed <- struct{}{}
	s.quiet("after it")
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// TestInterval: all is looked at each interval.
func TestInterval(t *testing.T) {
	s := newStand(t, 50*time.Millisecond)
	for range 5 {
		if q := s.look("each interval", well()); q.Fresh != 0 {
			t.Errorf("%s is fresh", q.Fresh)
		}
	}
}

// TestBusy: while another run holds the lock, it waits, and says that it lives.
func TestBusy(t *testing.T) {
	s := newStand(t, time.Hour)
	for range 3 {
		s.look("start", Result{Busy: true})
	}
	if s.told("READY=1") {
		t.Error("it is ready, and nothing is done")
	}
	s.look("the lock is free", well())
	s.quiet("then")
	if !s.told("READY=1") || !s.told("WATCHDOG=1") {
		t.Errorf("%q", s.notes)
	}
}

// TestShortWatchdog: one of a short time is fed within it, by waiting for the lock, too.
func TestShortWatchdog(t *testing.T) {
	const watchdog = 300 * time.Millisecond
	s := guardedStand(t, time.Hour, watchdog)
	if q := s.look("start", Result{Busy: true}); q.Wait >= watchdog {
		t.Errorf("it waits %s for the lock, and a watchdog wants to hear of it within %s", q.Wait, watchdog)
	}
	s.look("the lock is free", well())
	until(t, "the watchdog is fed again and again", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		fed := 0
		for _, note := range s.notes {
			if note == "WATCHDOG=1" {
				fed++
			}
		}
		return fed > 5
	})
}

// TestUnread: what could not be read is read again, all of it.
func TestUnread(t *testing.T) {
	s := newStand(t, time.Hour)
	s.look("start", Result{Report: report.Failed(errors.New("no answer"))})
	if q := s.look("again", well()); q.Fresh != 0 {
		t.Errorf("%s is fresh", q.Fresh)
	}
	s.quiet("then")
}

// TestFailures: what has failed is tried again, and said once.
func TestFailures(t *testing.T) {
	s := newStand(t, time.Hour)
	bad := well()
	bad.Report = report.Failed(errors.New("refused"))
	s.look("start", bad)
	if q := s.look("once more", bad); q.Fresh != 0 {
		t.Errorf("%s is fresh", q.Fresh)
	}
	s.look("and once more", well())
	s.quiet("then")
	if !slices.ContainsFunc(s.notes, func(n string) bool { return strings.Contains(n, "1 failures") }) {
		t.Errorf("%q", s.notes)
	}
}

// TestDeaf: a source that hears nothing any more ends the loop, with its reason.
func TestDeaf(t *testing.T) {
	s := newStand(t, time.Hour)
	s.look("start", well())
	s.mu.Lock()
	s.failing = errors.New("the socket is gone")
	s.mu.Unlock()
	s.ready <- struct{}{}
	select {
	case err := <-s.ended:
		if err == nil || err.Error() != "the socket is gone" {
			t.Error(err)
		}
		s.ended <- nil
	case <-time.After(patience):
		t.Fatal("it goes on")
	}
}
