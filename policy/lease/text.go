package lease

import "fmt"

// Bounds on what is shown of a value, and of a word in a list, in bytes: an
// environment variable can be 128 KiB long.
const (
	clipValue = 120
	clipWord  = 32
)

func clip(s string) string { return s[:min(len(s), clipValue)] }

func quote(s string) string { return quoteAt(s, clipValue) }

func quoteWord(s string) string { return quoteAt(s, clipWord) }

// quoteAt shows a value on one line, and says where it was cut.
func quoteAt(s string, limit int) string {
	if len(s) > limit {
		return fmt.Sprintf("%q... (%d bytes)", s[:limit], len(s))
	}
	return fmt.Sprintf("%q", s)
}
