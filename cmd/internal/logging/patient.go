package logging

import (
	"fmt"
	"io"
	"time"
)

// patient writes lines to a file that may take none for ever: a pipe into a
// paused pager, a terminal that was stopped. Then the process must not wait,
// it may hold the lock of all runs. O_NONBLOCK is no way out: it would be set
// for all that have the file open, a person's shell among them.
//
// A goroutine writes, and each line is waited for: what is said is written in
// its order, and no later than what is done next. The waits are bounded all
// together. Afterwards lines are kept for a reader that comes back, and those
// that find no room are dropped.
//
// It is used by one goroutine at a time.
type patient struct {
	lines   chan string   // to be written
	written chan struct{} // a line was written, or could not be
	behind  int           // lines that are not known to be written
	dropped int           // lines that found no room
	left    time.Duration // for waits
}

const (
	// writeTime bounds all waits together, but for the one at the end.
	writeTime = 500 * time.Millisecond

	// flushStall and flushTime bound the wait at the end: for the next line to
	// be taken, and for all of them.
	flushStall = 500 * time.Millisecond
	flushTime  = 5 * time.Second

	// keptLines bounds what is kept, in lines of maxLine bytes at most; what
	// a run says of a thousand addresses fits.
	keptLines = 4096
)

func newPatient(out io.Writer) *patient {
	p := &patient{lines: make(chan string, keptLines), written: make(chan struct{}, keptLines), left: writeTime}
	go func() {
		for line := range p.lines {
			_, _ = io.WriteString(out, line) // a reader that is gone misses it
			p.written <- struct{}{}
		}
	}()
	return p
}

// write writes a line, or leaves it to the goroutine, or drops it.
func (p *patient) write(line string) {
	p.catchUp(0, 0)
	if p.behind == keptLines {
		p.dropped++
		return
	}
	p.behind++
	p.lines <- line // there is room for it
	begun := time.Now()
	p.catchUp(p.left, p.left)
	p.left = max(0, p.left-time.Since(begun))
}

// flush waits for what is not written yet: up to stall for the next line to be
// taken, and up to limit for all.
func (p *patient) flush(stall, limit time.Duration) {
	p.catchUp(stall, limit)
	if p.behind == 0 && p.dropped > 0 {
		p.behind++
		p.lines <- fmt.Sprintf("%s: %d messages were dropped, as nobody read them in time\n", name, p.dropped)
		p.dropped = 0
		p.catchUp(stall, stall)
	}
}

// catchUp waits for all lines to be written: up to stall for each, and up to
// limit for all.
func (p *patient) catchUp(stall, limit time.Duration) {
	until := time.Now().Add(limit)
	for p.behind > 0 {
		select {
		case <-p.written:
			p.behind--
			continue
		default:
		}
		wait := min(stall, time.Until(until))
		if wait <= 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-p.written:
			p.behind--
			timer.Stop()
		case <-timer.C:
			return
		}
	}
}
