// Package spelling finds the words that a person may have meant with one that is not
// known: commands, flags, topics of help, keys and options of the configuration.
package spelling

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// most is by how many letters a word may differ from one that is known to be taken
// for it: and by half of its own at the most.
const most = 2

// DidYouMean is the question after a word that is not known, ` (did you mean "sync"?)`;
// "" where nothing is near. Known words that begin with the word are near, too.
func DidYouMean(word string, known []string) string {
	return question(word, known, func(k string) bool { return begins(k, word) || Near(word, k) })
}

// Instead is DidYouMean, but for words that differ by some letters alone: each that
// begins with the word would be one of many.
func Instead(word string, known []string) string {
	return question(word, known, func(k string) bool { return Near(word, k) })
}

func question(word string, known []string, near func(known string) bool) string {
	var quoted []string
	for _, k := range known {
		if q := strconv.Quote(k); k != word && near(k) && !slices.Contains(quoted, q) {
			quoted = append(quoted, q)
		}
	}
	if word == "" || len(quoted) == 0 {
		return ""
	}
	return " (did you mean " + strings.Join(quoted, " or ") + "?)"
}

// begins ignores case, as Near does.
func begins(known, word string) bool {
	return strings.HasPrefix(strings.ToLower(known), strings.ToLower(word))
}

// Near reports whether a word differs from another one by a letter or two.
func Near(word, known string) bool {
	d := distance([]rune(strings.ToLower(word)), []rune(strings.ToLower(known)))
	return d <= most && 2*d <= utf8.RuneCountInString(word)
}

// distance is how many letters have to be put in, left out or replaced (Levenshtein);
// where it is more than most, most+1.
func distance(a, b []rune) int {
	if len(a)-len(b) > most || len(b)-len(a) > most {
		return most + 1
	}
	// row[j] is the distance of what was read of a from the first j letters of b.
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i, letter := range a {
		before := row[0]
		row[0] = i + 1
		for j, other := range b {
			replaced := before
			if letter != other {
				replaced++
			}
			before = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return min(row[len(b)], most+1)
}
