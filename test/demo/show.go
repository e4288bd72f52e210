package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// show plays the events to both hosts, and prints a line for each. Where the output
// is a terminal, the line of what goes on is written over and over.
type show struct {
	out      io.Writer
	terminal bool
	hosts    [2]*host
	begun    time.Time
}

// line is one line of what is shown: when, what, and both hosts' right and wrong.
const line = "%4v  %-34s %7v %7v   %7v %7v"

// play returns what each host's sender sent by which uplink.
func (s *show) play(length time.Duration) (total [2]counts, err error) {
	fmt.Fprintf(s.out, "%4s  %-34s %15s   %15s\n", "s", "event", s.hosts[0].keeper.name, s.hosts[1].keeper.name)
	fmt.Fprintf(s.out, line+"\n", "", "", "right", "wrong", "right", "wrong")
	s.begun = time.Now()
	for n, e := range events {
		before := total
		over := time.After(time.Until(s.begun.Add(length * time.Duration(n+1) / time.Duration(len(events)))))
		if total, err = s.one(e, length/time.Duration(len(events)), before, over); err != nil {
			return total, fmt.Errorf("%s: %w", e.what, err)
		}
	}
	return total, nil
}

// one plays one event, until it has come to its end and its time is over.
func (s *show) one(e event, length time.Duration, before [2]counts, over <-chan time.Time) (total [2]counts, err error) {
	at := int(time.Since(s.begun).Seconds())
	done := make(chan error, len(s.hosts))
	for _, h := range s.hosts {
		go func() { done <- e.do(h, length) }()
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for left := len(s.hosts); left > 0 || over != nil; {
		select {
		case err := <-done:
			if err != nil {
				return total, err
			}
			left--
		case <-over:
			over = nil
		case <-tick.C:
			if s.terminal {
				if total, err = s.count(); err != nil {
					return total, err
				}
				fmt.Fprintf(s.out, "\r%s", rowOf(at, e.what, before, total))
			}
		}
	}
	if total, err = s.count(); err != nil {
		return total, err
	}
	if s.terminal {
		fmt.Fprint(s.out, "\r")
	}
	fmt.Fprintln(s.out, rowOf(at, e.what, before, total))
	return total, nil
}

func (s *show) count() (total [2]counts, err error) {
	for n, h := range s.hosts {
		if total[n], err = h.count(); err != nil {
			return total, err
		}
	}
	return total, nil
}

func rowOf(at int, what string, before, after [2]counts) string {
	a, b := after[0].without(before[0]), after[1].without(before[1])
	return fmt.Sprintf(line, at, what, a.right, a.wrong, b.right, b.wrong)
}

// resultOf is what it all came to.
func resultOf(total [2]counts) string {
	var b strings.Builder
	fmt.Fprintf(&b, "uplink  shell hook  wg-multihome\n")
	fmt.Fprintf(&b, "right   %10d  %12d\n", total[0].right, total[1].right)
	fmt.Fprintf(&b, "wrong   %10d  %12d\n", total[0].wrong, total[1].wrong)
	return b.String()
}
