package logging

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// unread returns a logger into a pipe, and the end that nobody has read yet.
func unread(t *testing.T) (*Logger, *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close(); _ = writer.Close() })
	return &Logger{stderr: newPatient(writer)}, reader
}

// A reader that comes back gets what was kept for it, in its order, and hears
// what it has missed.
func TestReaderComesBack(t *testing.T) {
	l, reader := unread(t)
	text := strings.Repeat("x", 100)
	const said = 2 * keptLines
	for i := range said {
		l.Infof("%d %s", i, text)
	}
	if l.stderr.dropped == 0 {
		t.Fatal("the pipe took everything: nothing was tested")
	}
	dropped := l.stderr.dropped
	ended := make(chan struct{})
	go func() { l.stderr.flush(time.Hour, time.Hour); close(ended) }()
	lines := bufio.NewScanner(reader)
	last := -1
	for range said - dropped {
		n := 0
		lines.Scan()
		if _, err := fmt.Sscanf(lines.Text(), "wg-multihome: %d "+text, &n); err != nil || n <= last {
			t.Fatalf("after line %d comes %q: %v", last, lines.Text(), err)
		}
		last = n
	}
	if want := fmt.Sprintf("wg-multihome: %d messages were dropped, as nobody read them in time", dropped); !lines.Scan() || lines.Text() != want {
		t.Errorf("the last line is %q, want %q", lines.Text(), want)
	}
	<-ended
}

// Nobody reads, ever: writing ends all the same, and so does the wait at the end.
func TestNobodyReads(t *testing.T) {
	l, _ := unread(t)
	for range 2 * keptLines {
		l.Errorf("%s", strings.Repeat("x", 100))
	}
	l.Flush()
	if l.stderr.behind == 0 || l.stderr.dropped == 0 {
		t.Errorf("%d lines are kept, %d were dropped: nothing was tested", l.stderr.behind, l.stderr.dropped)
	}
}

// What is read is there before the next thing is done, without any Flush.
func TestLineIsWrittenAtOnce(t *testing.T) {
	l, reader := unread(t)
	l.stderr.left = time.Hour // however busy the machine is
	lines := bufio.NewReader(reader)
	for i := range 3 {
		l.Infof("%d", i)
		if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("wg-multihome: %d\n", i) {
			t.Errorf("%q, %v", line, err)
		}
		if l.stderr.behind != 0 {
			t.Error("the line was not waited for")
		}
	}
}

// A reader that is gone costs nothing, and is not waited for.
func TestReaderIsGone(t *testing.T) {
	var l Logger
	l.stderr = newPatient(broken{})
	l.stderr.left = time.Hour
	for range 2 * keptLines {
		l.Infof("x")
	}
	l.Flush()
	if l.stderr.behind+l.stderr.dropped != 0 {
		t.Errorf("%d lines are kept, %d were dropped", l.stderr.behind, l.stderr.dropped)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
