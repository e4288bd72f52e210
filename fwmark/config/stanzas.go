package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"wg-multihome/fwmark/regular"
)

// stanza is an `iface` of interfaces(5): no more of it than tells whether
// ifquery is to be asked.
type stanza struct {
	name     string
	file     string
	loopback bool
	parents  []string // templates that it inherits from
	ours     bool     // its own text speaks of a gateway or of an option of ours
}

// Bounds on what a file may source: files, and how deep.
const (
	maxSourced = 512
	maxDepth   = 16
)

// sourceable are the file names that source-directory takes, interfaces(5).
var sourceable = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

// reader follows `source` and `source-directory`.
type reader struct {
	stanzas []stanza
	texts   []string // paths and texts of the files, in turn
	files   int
	errs    []error
}

// readStanzas reads the stanzas of a file, and of what it sources.
func readStanzas(path string) reader {
	r := reader{}
	r.read(path, 0)
	return r
}

func (r *reader) read(path string, depth int) {
	if r.files++; r.files > maxSourced || depth > maxDepth {
		r.errs = append(r.errs, fmt.Errorf("%s: more than %d files, or %d deep, are sourced", path, maxSourced, maxDepth))
		return
	}
	text, err := regular.Read(path, maxFile)
	if err != nil {
		if depth == 0 || !errors.Is(err, fs.ErrNotExist) { // a dangling link in a glob
			r.errs = append(r.errs, err)
		}
		return
	}
	r.texts = append(r.texts, path, string(text))
	found, sources := parseInterfaces(string(text))
	for _, s := range found {
		s.file = path
		r.stanzas = append(r.stanzas, s)
	}
	for _, s := range sources {
		for _, file := range s.files(filepath.Dir(path)) {
			if r.files > maxSourced {
				return
			}
			r.read(file, depth+1)
		}
	}
}

// source is a `source` or `source-directory` line.
type source struct {
	pattern   string
	directory bool
}

// files returns the files that a line names, relative ones below base.
func (s source) files(base string) []string {
	pattern := s.pattern
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(base, pattern)
	}
	matches, _ := filepath.Glob(pattern) // a malformed pattern matches nothing, to ifupdown too
	var files []string
	for _, m := range matches {
		info, err := os.Stat(m)
		switch {
		case err != nil:
		case !info.IsDir() && !s.directory:
			files = append(files, m)
		case info.IsDir():
			entries, _ := os.ReadDir(m) // unreadable: ifupdown passes over it as well
			for _, e := range entries {
				if sourceable.MatchString(e.Name()) {
					files = append(files, filepath.Join(m, e.Name()))
				}
			}
		}
	}
	return files
}

// parseInterfaces finds the stanzas and the source lines of one file. Values
// it leaves to ifquery.
func parseInterfaces(text string) (stanzas []stanza, sources []source) {
	var current *stanza
	for _, words := range logicalLines(text) {
		switch key := words[0]; {
		case key == "iface":
			if len(words) < 2 {
				current = nil
				continue
			}
			stanzas = append(stanzas, stanza{name: words[1]})
			current = &stanzas[len(stanzas)-1]
			current.header(words[2:])
		case key == "source" || key == "source-directory":
			for _, w := range words[1:] {
				sources = append(sources, source{pattern: w, directory: key == "source-directory"})
			}
			current = nil
		case key == "auto", key == "mapping", key == "rename", key == "no-auto-down", key == "no-scripts", key == "template",
			strings.HasPrefix(key, "allow-"):
			current = nil
		case current == nil:
		case key == "inherits":
			current.parents = append(current.parents, words[1:]...)
		default:
			current.ours = current.ours || key == "gateway" || isOption(key)
		}
	}
	return stanzas, sources
}

// header reads what follows the name: family, method, `inherits TEMPLATE`.
func (s *stanza) header(words []string) {
	for i, w := range words {
		switch {
		case i > 0 && words[i-1] == "inherits":
			s.parents = append(s.parents, w)
		case w == "loopback":
			s.loopback = true
		}
	}
}

// logicalLines splits a file into lines of words: backslashes at the end of a
// line continue it, lines that begin with `#` are comments.
func logicalLines(text string) [][]string {
	var lines [][]string
	var pending string
	for _, line := range strings.Split(text, "\n") {
		if pending == "" && strings.HasPrefix(strings.TrimLeft(line, " \t"), "#") {
			continue
		}
		if rest, continued := strings.CutSuffix(line, `\`); continued {
			pending += rest + " "
			continue
		}
		if words := strings.Fields(pending + line); len(words) > 0 {
			lines = append(lines, words)
		}
		pending = ""
	}
	if words := strings.Fields(pending); len(words) > 0 {
		lines = append(lines, words)
	}
	return lines
}

// worthAsking returns the names of the stanzas to ask ifquery for, each with
// its first file: no template that others inherit, no loopback, and nothing
// that says nothing to us.
func worthAsking(stanzas []stanza) []stanza {
	byName := map[string][]stanza{}
	inherited := map[string]bool{}
	for _, s := range stanzas {
		byName[s.name] = append(byName[s.name], s)
		for _, p := range s.parents {
			inherited[p] = true
		}
	}
	var worth []stanza
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		all := byName[name]
		loopback := slices.ContainsFunc(all, func(s stanza) bool { return s.loopback })
		if !inherited[name] && !loopback && says(name, byName, map[string]bool{}) {
			worth = append(worth, all[0])
		}
	}
	return worth
}

// says reports whether a stanza or what it inherits has something for us.
func says(name string, byName map[string][]stanza, seen map[string]bool) bool {
	if seen[name] {
		return false
	}
	seen[name] = true
	for _, s := range byName[name] {
		if s.ours || slices.ContainsFunc(s.parents, func(p string) bool { return says(p, byName, seen) }) {
			return true
		}
	}
	return false
}
