package install

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// files are what is written, but for what a Caller says.
//
//go:embed files
var files embed.FS

// A Caller is how files call the program.
type Caller struct {
	Path  string   // of the program, absolute
	Flags []string // that are not the default, as --config FILE
	State string   // STATE-DIR where that is not the default, else ""
}

// text returns what the entry's file is to be, sealed.
func (c Caller) text(e Entry) (string, error) {
	raw, err := files.ReadFile(path.Join("files", e.source))
	if err != nil {
		return "", err // a table and a folder that differ: a test has both
	}
	words := append([]string{c.Path}, c.Flags...)
	for _, w := range append(words, c.State) {
		if strings.ContainsAny(w, "\n\x00") {
			return "", fmt.Errorf("%q cannot stand in a hook: it has a line's end", w)
		}
	}
	state := ""
	if c.State != "" {
		state = " " + inUnit([]string{"-" + c.State}) // where it is not there, nothing is written to it
	}
	filled := strings.NewReplacer("@PATH@", inShell(words[:1]), "@PROGRAM@", inShell(words), "@UNIT-PROGRAM@", inUnit(words), "@UNIT-STATE-DIR@", state).Replace(string(raw))
	return seal(filled), nil
}

var (
	plainInShell = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)
	plainInUnit  = regexp.MustCompile(`^[A-Za-z0-9_@+=:,./-]+$`)
)

// inShell writes words as sh reads them.
func inShell(words []string) string {
	return joined(words, plainInShell, func(w string) string { return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'" })
}

// inUnit writes words as systemd reads them: systemd.service(5), COMMAND LINES.
func inUnit(words []string) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$")
	return joined(words, plainInUnit, func(w string) string { return `"` + escape.Replace(w) + `"` })
}

func joined(words []string, plain *regexp.Regexp, quote func(string) string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		if plain.MatchString(w) {
			b.WriteString(w)
		} else {
			b.WriteString(quote(w))
		}
	}
	return b.String()
}

const (
	originPlace = "@ORIGIN@"
	originBegin = "# Written by wg-multihome install, which replaces it while the rest has the hash sha256:"
)

// seal puts the line that names the origin, with the hash of all other lines, in
// its place.
func seal(text string) string {
	before, after, _ := strings.Cut(text, originPlace+"\n")
	return before + originBegin + hashOf(before+after) + "\n" + after
}

// sealed reports whether a text is as some version of ours has written it: the
// line is the first one, or the second after `#!`, and the hash is that of the
// rest.
func sealed(text string) bool {
	before := ""
	if strings.HasPrefix(text, "#!") {
		line, rest, ok := strings.Cut(text, "\n")
		if !ok {
			return false
		}
		before, text = line+"\n", rest
	}
	origin, after, ok := strings.Cut(text, "\n")
	hash, begins := strings.CutPrefix(origin, originBegin)
	return ok && begins && hash == hashOf(before+after)
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
