package watch

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"wg-multihome/cmd/internal/decide"
)

// tells is what runs beside the loop.
type tells struct {
	at      time.Time // when something is to be told; zero: nothing is
	running bool
	all     bool // all pinned tunnels are to be refreshed
	due     Refresh
	done    chan []error

	tried string               // what was told of last: it is not tried again at once
	since map[string]time.Time // addresses that are away, since when
	group sync.WaitGroup
}

func (t *tells) wait() { t.group.Wait() }

// news notes what is to be told by the last look. again has be tried once more
// what was tried in vain.
func (l *Loop) news(ctx context.Context, now time.Time, again bool) {
	if again {
		l.tells.tried = ""
	}
	l.tells.at = time.Time{}
	news, due := l.Teller.Pending(l.last)
	away := l.away(news, now)
	if len(news)+len(due) == 0 && !l.tells.all || key(news, due) == l.tells.tried && !l.tells.all {
		return
	}
	l.tells.at = now
	if !away.IsZero() {
		l.tells.at = away.Add(backWithin)
	}
	l.tellAt(ctx, now)
}

// away returns since when an address is away that was told, the zero time where
// each is there, or its uplink has another one for another reason.
func (l *Loop) away(news []decide.News, now time.Time) time.Time {
	since := map[string]time.Time{}
	var first time.Time
	for _, n := range news {
		if !n.Old.IsValid() || n.Old == n.Now.Address || l.has(n.Uplink, n.Old) {
			continue
		}
		k := n.Uplink + " " + n.Old.String()
		since[k] = now
		if at, known := l.tells.since[k]; known {
			since[k] = at
		}
		if first.IsZero() || since[k].Before(first) {
			first = since[k]
		}
	}
	l.tells.since = since
	return first
}

func (l *Loop) has(uplink string, a netip.Addr) bool {
	for _, addr := range l.last.Facts.Addrs {
		if addr.Device == uplink && addr.Prefix.Addr() == a {
			return true
		}
	}
	return false
}

func key(news []decide.News, due []string) string {
	var b strings.Builder
	for _, n := range news {
		fmt.Fprintf(&b, "%s %s %s %s %s\n", n.Uplink, n.Family, n.Now.Address, n.Now.Gateway, n.Now.Bound)
	}
	return b.String() + strings.Join(slices.Sorted(slices.Values(due)), " ")
}

// tellAt tells, where it is time to and nothing is being told.
func (l *Loop) tellAt(ctx context.Context, now time.Time) {
	t := &l.tells
	if t.running {
		return
	}
	if !t.at.IsZero() && !now.Before(t.at) {
		d, all := l.last, t.all
		news, due := l.Teller.Pending(d)
		t.tried, t.at, t.all = key(news, due), time.Time{}, false
		l.beside(func() []error {
			var errs []error
			if len(news)+len(due) > 0 {
				errs = l.Teller.Tell(ctx, d)
			}
			if all {
				errs = append(errs, l.Teller.Refresh(ctx, Refresh{Names: true})...)
			}
			return errs
		})
		return
	}
	if len(t.due.Devices) > 0 {
		due := t.due
		t.due = Refresh{}
		l.beside(func() []error { return l.Teller.Refresh(ctx, due) })
	}
}

// refresh has tunnels be refreshed for their handshakes.
func (l *Loop) refresh(ctx context.Context, r Refresh) {
	due := &l.tells.due
	due.Names = due.Names || r.Names
	for _, device := range r.Devices {
		if !slices.Contains(due.Devices, device) {
			due.Devices = append(due.Devices, device)
		}
	}
	l.tellAt(ctx, l.Clock.Now())
}

// told takes what came of it. What has failed is tried again with the next look at
// all, or when there is more to tell.
func (l *Loop) told(errs []error) {
	l.tells.running = false
	if len(errs) == 0 {
		l.tells.tried = ""
	}
	l.say(errs)
}

// beside runs something beside the loop.
func (l *Loop) beside(work func() []error) {
	l.tells.running = true
	l.tells.group.Add(1)
	go func() {
		defer l.tells.group.Done()
		l.tells.done <- work()
	}()
}
