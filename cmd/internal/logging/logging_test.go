package logging

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// to returns a logger into a buffer and the socket, that waits for each line
// however busy the machine is.
func to(path string, verbose bool) (*Logger, *bytes.Buffer) {
	var stderr bytes.Buffer
	patient := newPatient(&stderr)
	patient.left = time.Hour
	return &Logger{verbose: verbose, stderr: patient, system: &system{dial: func() (net.Conn, error) { return dialAt(path) }}}, &stderr
}

func listen(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func next(t *testing.T, c net.Conn) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	daemon := listen(t, path)
	l, stderr := to(path, true)
	for _, c := range []struct {
		say      func(string, ...any)
		priority int
	}{{l.Errorf, 27}, {l.Infof, 30}, {l.Debugf, 31}} {
		stderr.Reset()
		c.say("lease of %s: %d", "eth0", 5)
		if got, want := stderr.String(), "wg-multihome: lease of eth0: 5\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		want := fmt.Sprintf(`^<%d>[A-Z][a-z]{2} [ 0-9][0-9] \d\d:\d\d:\d\d wg-multihome\[%d\]: lease of eth0: 5$`, c.priority, os.Getpid())
		if got := next(t, daemon); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("got %q, want %s", got, want)
		}
	}
}

func TestDebugNeedsVerbose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	daemon := listen(t, path)
	l, stderr := to(path, false)
	l.Debugf("hidden")
	l.Infof("shown")
	if got := stderr.String(); got != "wg-multihome: shown\n" {
		t.Errorf("got %q", got)
	}
	if got := next(t, daemon); !strings.HasSuffix(got, ": shown") {
		t.Errorf("got %q", got)
	}
}

func TestHushLeavesErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	daemon := listen(t, path)
	l, stderr := to(path, false)
	l.Hush()
	l.Infof("done")
	l.Errorf("failed")
	if got := stderr.String(); got != "wg-multihome: failed\n" {
		t.Errorf("got %q", got)
	}
	for _, want := range []string{": done", ": failed"} {
		if got := next(t, daemon); !strings.HasSuffix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain, ü and 世 \"x\\n\"":              "plain, ü and 世 \"x\\n\"",
		"a\nb\r\n":                             `a\nb`,
		"\n\n":                                 "",
		"\x00\x1b[31m\x7f\u0085\u2028":         `\x00\x1b[31m\x7f\u0085\u2028`,
		"\u202eevil":                           `\u202eevil`,
		"bad \xff, good \ufffd":                "bad \\xff, good \ufffd",
		errors.Join(net.ErrClosed).Error():     "use of closed network connection",
		strings.Repeat("x", maxLine+1):         strings.Repeat("x", maxLine) + "...",
		strings.Repeat("x", maxLine-1) + "ü--": strings.Repeat("x", maxLine-1) + `\xc3...`,
	} {
		if got := oneLine(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestNoSyslog(t *testing.T) {
	l, stderr := to(filepath.Join(t.TempDir(), "nothing"), false)
	for range 3 {
		l.Infof("x")
	}
	if got := stderr.String(); got != strings.Repeat("wg-multihome: x\n", 3) {
		t.Errorf("got %q", got)
	}
}

// A daemon that listens and does not read fills its queue, then blocks writers.
func TestStuckDaemon(t *testing.T) {
	for _, network := range []string{"unixgram", "unix"} {
		t.Run(network, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			if network == "unixgram" {
				listen(t, path)
			} else {
				l, err := net.Listen("unix", path)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
			}
			l, stderr := to(path, false)
			began := time.Now()
			text := strings.Repeat("x", maxLine)
			for range 2000 {
				l.Infof("%s", text)
			}
			if took := time.Since(began); took > time.Minute {
				t.Errorf("2000 messages took %v", took)
			}
			if l.system.downUntil.IsZero() {
				t.Error("the daemon never got stuck: nothing was tested")
			}
			if n := bytes.Count(stderr.Bytes(), []byte("\n")); n != 2000 {
				t.Errorf("%d lines on stderr", n)
			}
		})
	}
}

func TestDaemonStartedAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	daemon := listen(t, path)
	l, _ := to(path, false)
	l.Infof("one")
	next(t, daemon)
	_ = daemon.Close()
	_ = os.Remove(path)
	daemon = listen(t, path)
	l.Infof("two")
	if got := next(t, daemon); !strings.HasSuffix(got, ": two") {
		t.Errorf("got %q", got)
	}
}

func TestStream(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	daemon, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	l, _ := to(path, false)
	l.Infof("one")
	c, err := daemon.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := next(t, c); !strings.HasSuffix(got, ": one\n") {
		t.Errorf("got %q", got)
	}
}

func TestConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	daemon := listen(t, path)
	go func() {
		for buf := make([]byte, 64<<10); ; {
			if _, err := daemon.Read(buf); err != nil {
				return
			}
		}
	}()
	l, stderr := to(path, true)
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 50 {
				l.Debugf("message")
			}
		}()
	}
	wg.Wait()
	if got := stderr.String(); got != strings.Repeat("wg-multihome: message\n", 400) {
		t.Errorf("lines are mixed: %q", got)
	}
}

func TestWhereStderrGoes(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	stream := fmt.Sprintf("%d:%d", st.Dev, st.Ino)

	t.Setenv("JOURNAL_STREAM", stream)
	if New(file, false).system != nil {
		t.Error("stderr is the journal, and syslog is used too")
	}
	for _, other := range []string{"", "8:1", stream + "0", " " + stream, "x"} {
		t.Setenv("JOURNAL_STREAM", other)
		if New(file, false).system == nil {
			t.Errorf("JOURNAL_STREAM=%q: no syslog", other)
		}
	}
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal here: %v", err)
	}
	defer terminal.Close()
	if New(terminal, false).system != nil {
		t.Error("stderr is a terminal, and syslog is used")
	}
}
