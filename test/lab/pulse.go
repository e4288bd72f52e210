package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// every is how far apart the datagrams of a pulse are.
const every = 5 * time.Millisecond

// Pulse is what has become of a flow of datagrams that an echo answers.
type Pulse struct {
	Sent, Answered int
	Silence        time.Duration // the longest between two answers, or before and after all
}

// Pulse sends a datagram every 5 ms from a namespace to where Echo answers,
// until stop is called.
func (l *Lab) Pulse(from *Namespace, to string) (stop func() Pulse) {
	l.t.Helper()
	end := l.endless(from, "pulse", self(l.t), to)
	return func() (p Pulse) {
		l.t.Helper()
		var silence int64
		_, err := fmt.Sscan(end(), &p.Sent, &p.Answered, &silence)
		fatal(l.t, err)
		p.Silence = time.Duration(silence)
		return p
	}
}

// late is how long answers that are missing are waited for at the end.
const late = time.Second

// pulse is the role: DESTINATION. It goes on until standard input ends.
func pulse(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: DESTINATION")
	}
	c, err := net.Dial("udp", net.JoinHostPort(args[0], port))
	if err != nil {
		return err
	}
	var answered, last, silence atomic.Int64
	begun := time.Now()
	heard := func() {
		now := int64(time.Since(begun))
		if since := now - last.Swap(now); since > silence.Load() {
			silence.Store(since)
		}
	}
	go func() {
		b := make([]byte, 100)
		for {
			_, err := c.Read(b)
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case err == nil:
				answered.Add(1)
				heard()
			}
		}
	}()
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	fmt.Println("begun")
	sent := 0
	for ticks := time.NewTicker(every); ; {
		select {
		case <-ended:
			heard()
			for until := time.Now().Add(late); int(answered.Load()) < sent && time.Now().Before(until); {
				time.Sleep(every)
			}
			fmt.Println(sent, answered.Load(), silence.Load())
			return c.Close()
		case <-ticks.C:
			// One that is refused was sent, too: nobody has had it.
			_, _ = c.Write([]byte("?"))
			sent++
		}
	}
}
