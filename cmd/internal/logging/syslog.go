package logging

import (
	"errors"
	"fmt"
	"log/syslog"
	"net"
	"os"
	"time"
)

// system sends to the local syslog. log/syslog has no time limit: with a
// daemon that listens and does not read, its Write waits for ever, and a DHCP
// client with it. Sending at once, and not from a goroutine, loses no message
// at exit.
type system struct {
	dial func() (net.Conn, error)

	conn      net.Conn  // nil: not connected
	downUntil time.Time // nothing is tried before
}

const (
	// sendTime bounds one message's wait; local daemons take microseconds.
	sendTime = 200 * time.Millisecond

	// downTime is for how long nothing is sent after a failure, so that many
	// messages do not wait one after the other.
	downTime = 10 * time.Second
)

// send sends one message, or gives it up. A connection that is dead because the
// daemon was started anew is made anew, once.
func (s *system) send(level syslog.Priority, line string) {
	now := time.Now()
	if now.Before(s.downUntil) {
		return
	}
	reused := s.conn != nil
	err := s.try(level, line, now)
	if err != nil && reused && !errors.Is(err, os.ErrDeadlineExceeded) {
		err = s.try(level, line, now)
	}
	if err != nil {
		s.downUntil = now.Add(downTime)
	}
}

func (s *system) try(level syslog.Priority, line string, now time.Time) (err error) {
	if s.conn == nil {
		if s.conn, err = s.dial(); err != nil {
			s.conn = nil
			return err
		}
	}
	// RFC 3164's form without a host name, as glibc's syslog(3) sends it.
	text := fmt.Sprintf("<%d>%s %s[%d]: %s", syslog.LOG_DAEMON|level, now.Format(time.Stamp), name, os.Getpid(), line)
	if s.conn.LocalAddr().Network() == "unix" {
		text += "\n" // in a stream something has to end it
	}
	err = s.conn.SetWriteDeadline(time.Now().Add(sendTime))
	if err == nil {
		_, err = s.conn.Write([]byte(text))
	}
	if err != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
	return err
}

// dialSyslog connects to the daemon's socket: a datagram socket nearly always.
func dialSyslog() (net.Conn, error) { return dialAt("/dev/log", "/var/run/syslog", "/var/run/log") }

func dialAt(paths ...string) (net.Conn, error) {
	var errs []error
	for _, path := range paths {
		for _, network := range []string{"unixgram", "unix"} {
			conn, err := net.DialTimeout(network, path, sendTime)
			if err == nil {
				return conn, nil
			}
			errs = append(errs, err)
		}
	}
	return nil, errors.Join(errs...)
}
