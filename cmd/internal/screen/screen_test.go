package screen

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal returns one of a width.
func terminal(t *testing.T, width uint16) *os.File {
	t.Helper()
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: width}); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestOf: a pipe has no width and no colours, whatever the environment says; a terminal
// has its own width, and colours unless the environment says that it has none, or that
// nobody wants them.
func TestOf(t *testing.T) {
	_, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for _, p := range pairs {
				if key, value, _ := strings.Cut(p, "="); key == name {
					return value
				}
			}
			return ""
		}
	}
	for _, c := range []struct {
		file   *os.File
		getenv func(string) string
		want   Screen
	}{
		{pipe, env("TERM=xterm", "COLUMNS=40", "CLICOLOR_FORCE=1"), Screen{}},
		{terminal(t, 40), env("TERM=xterm"), Screen{Width: 40, Colour: true}},
		{terminal(t, 200), env("TERM=xterm", "NO_COLOR="), Screen{Width: 200, Colour: true}},
		{terminal(t, 200), env("TERM=xterm", "NO_COLOR=1"), Screen{Width: 200}},
		{terminal(t, 200), env("TERM=dumb"), Screen{Width: 200}},
		{terminal(t, 200), env(), Screen{Width: 200}},
		{terminal(t, 0), env("TERM=linux"), Screen{Width: 80, Colour: true}}, // a serial line says no size
	} {
		if got := Of(c.file, c.getenv); got != c.want {
			t.Errorf("%+v, want %+v", got, c.want)
		}
	}
}

func TestFill(t *testing.T) {
	for _, c := range []struct {
		width, indent int
		line, want    string
	}{
		{0, 2, strings.Repeat("word ", 40) + "end", strings.Repeat("word ", 40) + "end"},
		{20, 2, "short enough", "short enough"},
		{20, 2, "a line that is longer than that", "a line that is\n  longer than that"},
		{20, 4, "  its own blanks at the begin", "  its own blanks at\n    the begin"},
		{20, 2, "one averyverylongwordthatcannotbebroken two", "one\n  averyverylongwordthatcannotbebroken\n  two"},
		{20, 17, "no room for an indent like that", "no room for an\n  indent like that"},
		{9, 2, "äöü äöü äöü", "äöü äöü\n  äöü"},
	} {
		if got := (Screen{Width: c.width}).Fill(c.line, c.indent); got != c.want {
			t.Errorf("%d columns: %q, want %q", c.width, got, c.want)
		}
	}
}

// TestTable: columns that find no room stand below the one in front of them, and free
// text of the last one is broken.
func TestTable(t *testing.T) {
	for _, c := range []struct {
		width int
		free  bool
		want  string
	}{
		{0, false, `
NAME  STATE  ADDRESS     WHY
wan1  up     192.0.2.10  a reason of several words
      -      192.0.2.11
wan2  -      -           b
`}, {46, true, `
NAME  STATE  ADDRESS     WHY
wan1  up     192.0.2.10  a reason of several
                         words
      -      192.0.2.11
wan2  -      -           b
`}, {44, false, `
NAME  STATE  ADDRESS
wan1  up     192.0.2.10
             why a reason of several words
      -      192.0.2.11
wan2  -      -
             why b
`}, {40, false, `
NAME  STATE
wan1  up
      address 192.0.2.10
      why a reason of several words
      -
      address 192.0.2.11
wan2  -
      why b
`}, {30, true, `
NAME
wan1
  state up
  address 192.0.2.10
  why a reason of several
    words
  address 192.0.2.11
wan2
  why b
`},
	} {
		rows := Table{Columns: []string{"NAME", "STATE", "ADDRESS", "WHY"}, Free: c.free}
		rows.Row("wan1", "up", "192.0.2.10", "a reason of several words")
		rows.Row("", "", "192.0.2.11")
		rows.Row("wan2", "", "", "b")
		if got := "\n" + rows.Text(Screen{Width: c.width}); got != c.want {
			t.Errorf("%d columns, free text %t:%s\nwant:%s", c.width, c.free, got, c.want)
		}
	}
}

// TestTableInAPipe stays whole where no folding makes it fit: a name alone is wider.
func TestTableInAPipe(t *testing.T) {
	rows := Table{Columns: []string{"NAME", "STATE"}}
	name := strings.Repeat("x", 90)
	rows.Row(name, "up")
	if got := rows.Text(Screen{}); !strings.HasSuffix(got, "\n"+name+"  up\n") {
		t.Error(got)
	}
}

func TestASCII(t *testing.T) {
	for value, want := range map[string]bool{"": false, "C": false, "POSIX": false, "C.UTF-8": true, "de_DE.utf8": true, "de_DE": false} {
		if got := UTF8(func(name string) string { return map[string]string{"LANG": value}[name] }); got != want {
			t.Errorf("LANG=%s: %t", value, got)
		}
		if UTF8(func(name string) string { return map[string]string{"LC_ALL": "C", "LANG": value}[name] }) {
			t.Errorf("LC_ALL=C and LANG=%s", value)
		}
	}
	if got := ASCII("a ──► b │ ├ └ ┬ … ü"); got != "a --> b | + + + ... ?" {
		t.Errorf("%q", got)
	}
}
