package man

import (
	"fmt"
	"regexp"
	"strings"
)

// special are characters that stand for something else in roff, or that look otherwise
// than they are typed: groff_char(7).
var special = map[rune]string{'\\': `\e`, '-': `\-`, '\'': `\(aq`, '`': `\(ga`, '^': `\(ha`, '~': `\(ti`}

// escape has roff show a text as it is.
func escape(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch s := special[r]; {
		case s != "":
			b.WriteString(s)
		case r > '~':
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// guarded keeps a line from being read as a request.
func guarded(line string) string {
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		return `\&` + line
	}
	return line
}

// quoted is an argument of a request.
func quoted(text string) string {
	if !strings.HasPrefix(text, `\`) {
		text = inline(text)
	}
	return `"` + strings.ReplaceAll(text, `"`, `\(dq`) + `"`
}

var (
	faces = regexp.MustCompile("`[^`]+`|\\*\\*[^*]+\\*\\*")
	link  = regexp.MustCompile(`\[([^]]+)\]\([^)]+\)`)
)

// marks are what faces have around them, and in them.
var marks = strings.NewReplacer("`", "", "**", "")

// inline has what is between backquotes or double stars in bold. Links are their
// text.
func inline(text string) string {
	text = link.ReplaceAllString(text, "$1")
	var b strings.Builder
	end := 0
	for _, at := range faces.FindAllStringIndex(text, -1) {
		b.WriteString(escape(text[end:at[0]]))
		b.WriteString(Bold(marks.Replace(text[at[0]:at[1]])))
		end = at[1]
	}
	return b.String() + escape(text[end:])
}
