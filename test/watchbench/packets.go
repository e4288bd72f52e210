package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// every is how far apart the packets are that are sent while acts are done.
const every = time.Millisecond

// packets are sent all the while: marked ones, and ones into a tunnel, whose own are
// to leave by the second uplink as well.
type packets struct {
	isp    *other
	before map[string]int // seen by then
	end    chan struct{}
	wait   sync.WaitGroup

	mu   sync.Mutex
	sent map[string]int // by what became of the marked ones, as the sender knows it
}

// send begins to send.
func (b *bench) send() (*packets, error) {
	p := &packets{isp: b.isp, end: make(chan struct{}), sent: map[string]int{}}
	var err error
	if p.before, err = b.isp.seen(); err != nil {
		return nil, err
	}
	for _, s := range []struct {
		to   [4]byte
		mark int
	}{{[4]byte{203, 0, 113, 9}, 0x2000}, {[4]byte{10, 200, 0, 2}, 0}} {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err == nil && s.mark != 0 {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, s.mark)
		}
		if err != nil {
			return nil, err
		}
		p.wait.Add(1)
		go p.one(fd, &unix.SockaddrInet4{Addr: s.to, Port: markedPort}, s.mark != 0)
	}
	return p, nil
}

// one sends from one socket until the end.
func (p *packets) one(fd int, to unix.Sockaddr, counts bool) {
	defer p.wait.Done()
	defer unix.Close(fd)
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for {
		select {
		case <-p.end:
			return
		case <-ticks.C:
		}
		became := "sent"
		switch err := unix.Sendto(fd, []byte("x"), unix.MSG_DONTWAIT, to); {
		case errors.Is(err, unix.EPERM):
			became = "lock"
		case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
			became = "guard"
		case err != nil:
			became = err.Error()
		}
		if counts {
			p.mu.Lock()
			p.sent[became]++
			p.mu.Unlock()
		}
	}
}

func (p *packets) stop() {
	select {
	case <-p.end:
	default:
		close(p.end)
	}
	p.wait.Wait()
}

// became ends the sending, and tells what became of the packets. Those of a tunnel that
// is pinned have no mark while others have taken it, and no lock holds them then.
func (p *packets) became(tunnel bool) (string, error) {
	p.stop()
	seen, err := p.isp.seen()
	for name := range seen {
		seen[name] -= p.before[name]
	}
	text := fmt.Sprintf("%d marked packets left, %d BY ANOTHER UPLINK; %d were refused by the rules, %d by the second lock alone",
		p.sent["sent"], seen["marked_wrong"], p.sent["guard"], p.sent["lock"])
	for what, n := range p.sent {
		if what != "sent" && what != "guard" && what != "lock" {
			text += fmt.Sprintf(", %d: %s", n, what)
		}
	}
	if tunnel {
		text += fmt.Sprintf("; of the tunnel's own %d left, %d by another uplink", seen["tunnel_right"]+seen["tunnel_wrong"], seen["tunnel_wrong"])
	}
	return text, err
}
