package main

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// bench acts, and hears what watch makes of it.
type bench struct {
	options
	heard chan said
	keys  keys
	isp   *other
	pid   int // watch's
}

// act is what others do, and by what is heard that it was mended.
type act struct {
	name   string
	second string                                     // lines of the configuration about the second uplink
	begin  func(b *bench) (end func() error, _ error) // before all of them; nil: nothing
	before func(b *bench, i int) error                // before the pause; nil: nothing
	do     func(b *bench, i int) error
	tunnel bool                 // a pinned tunnel is there
	since  string               // what is heard when the clock begins to count; "": it does before the act
	right  func(i int) []string // what is heard in the end, each as often as it is there
}

// patience is how long an act may take to be mended.
const patience = 20 * time.Second

// quiet takes what is heard until nothing was for a while.
func (b *bench) quiet(while time.Duration) {
	for {
		select {
		case <-b.heard:
		case <-time.After(while):
			return
		}
	}
}

// run acts again and again.
func (b *bench) run(a act) (err error) {
	if err := configure(a.second); err != nil {
		return err
	}
	if a.begin != nil {
		end, err := a.begin(b)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, end()) }()
	}
	b.quiet(6 * time.Second) // watch takes away what is configured no longer
	packets, err := b.send()
	if err != nil {
		return err
	}
	defer packets.stop()
	times, took := make([]time.Duration, 0, b.acts), make([]time.Duration, 0, b.acts)
	cpu := b.cpu()
	for i := range b.acts {
		mended, acted, err := b.once(a, i)
		if err != nil {
			return err
		}
		times, took = append(times, mended), append(took, acted)
	}
	cpu = (b.cpu() - cpu) / time.Duration(b.acts)
	slices.Sort(times)
	slices.Sort(took)
	fmt.Printf("%-22s %d acts  median %7.2f ms  p99 %7.2f ms  worst %7.2f ms  the act itself %6.2f ms  CPU of watch %5.2f ms an act\n",
		a.name, len(times), at(times, 0.5), at(times, 0.99), at(times, 1), at(took, 0.5), float64(cpu)/float64(time.Millisecond))
	text, err := packets.became(a.tunnel)
	fmt.Printf("%22s %s\n", "", text)
	return err
}

func at(sorted []time.Duration, share float64) float64 {
	return float64(sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]) / float64(time.Millisecond)
}

// once acts once, and returns how long it took until the kernel was right, and how
// long the act itself.
func (b *bench) once(a act, i int) (mended, acted time.Duration, err error) {
	if a.before != nil {
		if err := a.before(b, i); err != nil {
			return 0, 0, err
		}
	}
	b.quiet(b.pause)
	began := time.Now()
	if err := a.do(b, i); err != nil {
		return 0, 0, err
	}
	acted = time.Since(began)
	mended, err = b.wait(began, a.since, a.right(i))
	return mended, acted, err
}

// wait waits until everything of a list was heard, and returns how long that took
// since the beginning, or since something was heard.
func (b *bench) wait(began time.Time, since string, texts []string) (time.Duration, error) {
	left := counted(texts)
	end := time.After(patience)
	for len(left) > 0 || since != "" {
		select {
		case s := <-b.heard:
			if s.text == since {
				since, began, left = "", s.at, counted(texts)
				continue
			}
			if left[s.text]--; left[s.text] <= 0 {
				delete(left, s.text)
			}
			if len(left) == 0 && since == "" {
				return s.at.Sub(began), nil
			}
		case <-end:
			return 0, fmt.Errorf("it is not mended: %s%v", since, left)
		}
	}
	return time.Since(began), nil
}

func counted(texts []string) map[string]int {
	left := map[string]int{}
	for _, text := range texts {
		left[text]++
	}
	return left
}
