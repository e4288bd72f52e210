// Package logging says things on stderr, and in syslog where nobody would read
// stderr: a DHCP client's is /dev/null.
package logging

import (
	"fmt"
	"io"
	"log/syslog"
	"os"
	"strings"
	"sync"
)

// name is what messages go by: before each line on stderr, and as syslog's tag.
const name = "wg-multihome"

// maxLine bounds a message in bytes; what is longer is cut. Syslog daemons
// take 8 KiB, or less.
const maxLine = 4 << 10

// Logger writes messages, each as one line. It may be used from several
// goroutines. It never fails: a message that cannot be delivered is lost. Nor
// does it keep a process waiting for who reads it, beyond a second.
type Logger struct {
	verbose bool
	hushed  bool // what was done is for syslog alone

	mu     sync.Mutex
	stderr *patient
	system *system // nil: no syslog
}

// New returns a logger to stderr. It also sends to syslog (LOG_DAEMON) when
// stderr is neither a terminal nor the journal; where no syslog listens that is
// no error. verbose is `-v`: without it Debugf says nothing.
func New(stderr *os.File, verbose bool) *Logger {
	l := &Logger{verbose: verbose, stderr: newPatient(stderr)}
	if !isTerminal(stderr) && !isJournal(stderr, os.Getenv("JOURNAL_STREAM")) {
		l.system = &system{dial: dialSyslog}
	}
	return l
}

// Discard returns a logger that says nothing to anybody.
func Discard() *Logger { return &Logger{stderr: newPatient(io.Discard)} }

// Hush has what was done go to syslog alone, unless -v was given: where stderr
// is that of a person's own command.
func (l *Logger) Hush() { l.hushed = !l.verbose }

// Errorf says that something failed.
func (l *Logger) Errorf(format string, args ...any) { l.log(syslog.LOG_ERR, format, args...) }

// Infof says what was done.
func (l *Logger) Infof(format string, args ...any) { l.log(syslog.LOG_INFO, format, args...) }

// Debugf says what only somebody who looks for a fault wants to know, and
// nothing without -v.
func (l *Logger) Debugf(format string, args ...any) {
	if l.verbose {
		l.log(syslog.LOG_DEBUG, format, args...)
	}
}

// Flush is called before the process ends: where stderr takes little or
// nothing, messages are kept for it, and now or never it gets them.
func (l *Logger) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stderr.flush(flushStall, flushTime)
}

func (l *Logger) log(level syslog.Priority, format string, args ...any) {
	line := oneLine(fmt.Sprintf(format, args...))
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.hushed || level <= syslog.LOG_ERR {
		l.stderr.write(name + ": " + line + "\n")
	}
	if l.system != nil {
		l.system.send(level, line)
	}
}

// oneLine makes a message one line that a terminal can show: it is cut at
// maxLine, and what is not printable is escaped as in Go. Values from a DHCP
// server and from the kernel come this way. Trailing line breaks are dropped.
func oneLine(s string) string {
	s = strings.TrimRight(s, "\r\n")
	if len(s) > maxLine {
		s = s[:maxLine] + "..."
	}
	return escape(s)
}
