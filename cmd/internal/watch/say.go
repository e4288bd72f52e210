package watch

import (
	"fmt"
	"strings"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/events"
	"wg-multihome/cmd/internal/report"
)

// problems are what is to be said of a look.
func problems(r report.Report) []error {
	var errs []error
	for _, p := range r.Problems {
		errs = append(errs, fmt.Errorf("%s", p.Error()))
	}
	return append(errs, r.Errs...)
}

// maxSaid bounds what is remembered of what was said.
const maxSaid = 1000

// say says errors, each once until the configuration changes.
func (l *Loop) say(errs []error) {
	for _, err := range errs {
		if l.said[err.Error()] {
			continue
		}
		if len(l.said) >= maxSaid {
			clear(l.said)
		}
		l.said[err.Error()] = true
		l.Log.Errorf("%s", err)
	}
}

// state says that watch is ready, and a line of how things are.
func (l *Loop) state(d decide.Decision, heard events.Heard, r Result, now time.Time) {
	up := 0
	for _, u := range d.Uplinks {
		if u.Up {
			up++
		}
	}
	line := fmt.Sprintf("%d of %d uplinks up, %d marks", up, len(d.Uplinks), len(d.Pins))
	if n := len(d.Problems); n > 0 {
		line += fmt.Sprintf(", %d errors in the configuration", n)
	}
	if n := len(r.Report.Errs); n > 0 {
		line += fmt.Sprintf(", %d failures", n)
	}
	if n := l.hold.Active(); n > 0 {
		line += fmt.Sprintf(", %d taken away again and again", n)
	}
	if len(r.Made) > 0 {
		line += fmt.Sprintf("; last mended at %s", now.Format(time.TimeOnly))
	} else if i := strings.IndexByte(l.status, ';'); i >= 0 {
		line += l.status[i:]
	}
	if line != l.status {
		l.status = line
		l.Notify("STATUS=" + line)
	}
	if !l.ready {
		l.ready = true
		l.Notify("READY=1")
	}
}
