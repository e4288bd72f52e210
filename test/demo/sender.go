package main

import (
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// rate is how many packets a second the pinned sender sends.
const rate = 1000

// sender sends from a socket that carries up2's mark.
type sender struct {
	sent, refused int // once done is closed
	stop, done    chan struct{}
}

// startSender starts the host's one. Its socket is never bound nor connected: each
// packet has the source that fits its way.
func (h *host) startSender() error {
	s := &sender{stop: make(chan struct{}), done: make(chan struct{})}
	fd := -1
	err := h.do(func(*netlink.Handle) error {
		var err error
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark)
	})
	if err != nil {
		return err
	}
	h.sender = s
	to := &unix.SockaddrInet4{Port: pinnedPort, Addr: [4]byte(parseIP(farAddress).To4())}
	go func() {
		defer close(s.done)
		defer unix.Close(fd)
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		for begun := time.Now(); ; {
			select {
			case <-s.stop:
				return
			case <-tick.C:
			}
			// Ticks may come late, and then some are left out.
			for due := int(time.Since(begun) * rate / time.Second); s.sent < due; s.sent++ {
				if unix.Sendto(fd, []byte("pinned"), 0, to) != nil {
					s.refused++
				}
			}
		}
	}()
	return nil
}

// end has it end, and waits for that.
func (s *sender) end() {
	close(s.stop)
	<-s.done
}
