package logging

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// escape writes what strconv.IsPrint refuses (control characters, line
// separators, marks that turn the direction of text, broken UTF-8) as Go
// does in a string. Quotes and backslashes stay as they are: messages have
// values that were quoted already.
func escape(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if strconv.IsPrint(r) && (r != utf8.RuneError || size > 1) {
			b.WriteString(s[:size])
		} else {
			quoted := strconv.Quote(s[:size])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[size:]
	}
	return b.String()
}
