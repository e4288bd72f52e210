// Package screen fits texts to where they are read: a terminal of some width, with
// colours or without, or a pipe.
package screen

import (
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// standard is how many columns there are where nobody says.
const standard = 80

// Screen is where a text is read. The zero Screen is a pipe or a file: there sentences
// stay in one line, for what searches them.
type Screen struct {
	Width  int // of a terminal, in columns; 0: it is none
	Colour bool
}

// Of tells what a file is. Colours are for terminals that have them, unless NO_COLOR
// is set (no-color.org).
func Of(f *os.File, getenv func(string) string) Screen {
	fd := int(f.Fd())
	if !term.IsTerminal(fd) {
		return Screen{}
	}
	s := Screen{Width: standard}
	if width, _, err := term.GetSize(fd); err == nil && width > 0 {
		s.Width = width
	}
	kind := getenv("TERM")
	s.Colour = getenv("NO_COLOR") == "" && kind != "" && kind != "dumb"
	return s
}

// columns is how wide a table may be.
func (s Screen) columns() int {
	if s.Width > 0 {
		return s.Width
	}
	return standard
}

// Fill breaks a line that a terminal would break anywhere. Its further lines are
// indented.
func (s Screen) Fill(line string, indent int) string { return s.fill(line, 0, indent) }

// fill is Fill for what begins in a column.
func (s Screen) fill(line string, column, indent int) string {
	const narrow = 12 // less room than this is no use
	if s.Width == 0 || column+length(line) <= s.Width {
		return line
	}
	if s.Width-indent < narrow {
		indent = 2
	}
	var b strings.Builder
	first := true // no word of the line is written yet, whose own blanks stay
	for _, word := range strings.SplitAfter(line, " ") {
		bare := strings.TrimRight(word, " ")
		if !first && bare != "" && column+length(bare) > s.Width {
			text := strings.TrimRight(b.String(), " ")
			b.Reset()
			b.WriteString(text + "\n" + strings.Repeat(" ", indent))
			column = indent
		}
		first = first && bare == ""
		b.WriteString(word)
		column += length(word)
	}
	return strings.TrimRight(b.String(), " ")
}

// Colour is one that a terminal shows a word in. No word means anything by its colour
// alone.
type Colour string

// The colours, console_codes(4).
const (
	Good    Colour = "32" // green
	Bad     Colour = "31" // red
	Careful Colour = "33" // yellow
	Title   Colour = "1"  // bold
)

// Paint returns a text in a colour.
func (s Screen) Paint(c Colour, text string) string {
	if !s.Colour {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

func length(text string) int { return utf8.RuneCountInString(text) }
