package screen

import "strings"

// UTF8 reports whether the environment's locale has UTF-8, by the first variable that
// is set (locale(7)). Without any it is C, which has ASCII alone.
func UTF8(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := strings.ToLower(getenv(name)); value != "" {
			return strings.Contains(value, "utf-8") || strings.Contains(value, "utf8")
		}
	}
	return false
}

// drawn are characters of diagrams, and what they look like in ASCII.
var drawn = map[rune]string{'─': "-", '│': "|", '►': ">", '┬': "+", '├': "+", '└': "+", '…': "..."}

// ASCII is a text without characters that C's locale has not.
func ASCII(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case drawn[r] != "":
			b.WriteString(drawn[r])
		default:
			b.WriteByte('?')
		}
	}
	return b.String()
}
