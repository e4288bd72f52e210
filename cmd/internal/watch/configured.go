package watch

import (
	"slices"
	"time"

	"wg-multihome/cmd/internal/decide"
)

// settled is how long the configuration has to be valid and unchanged until what it
// does not have any more is taken away.
const settled = 5 * time.Second

// configured notes what the configuration is, and when what it does not have any
// more is taken away: not before it was seen without it, valid and unchanged, for
// a while, and never for a file that is absent or empty.
func (l *Loop) configured(d decide.Decision, person bool, now time.Time) {
	if !l.looked || !d.Config.Same(l.known.Config) {
		l.changedAt, l.personFor = now, ""
		clear(l.said)
	}
	left := ""
	for _, p := range d.Problems {
		left += p.Error() + "\n"
	}
	if person {
		l.personFor = left
	}
	texts := d.Config.Texts()
	l.meetTexts(texts, left == "")
	missing := l.texts == nil || slices.ContainsFunc(l.texts, func(file string) bool { return !slices.Contains(texts, file) })
	l.personAt = time.Time{}
	if left != "" && left != l.personFor && len(d.Config.Problems) == 0 && len(texts) > 0 && !missing {
		l.personAt = l.changedAt.Add(settled)
	}
}

// meetTexts notes which files had a text. Where nothing stands that is configured no
// longer (all), all of it comes from these files. Else some may come from a file that had
// a text before, so that one stays noted.
func (l *Loop) meetTexts(files []string, all bool) {
	if all {
		l.texts = append([]string{}, files...)
		return
	}
	for _, file := range files {
		if l.texts != nil && !slices.Contains(l.texts, file) {
			l.texts = append(l.texts, file)
		}
	}
}
