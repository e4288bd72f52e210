package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"wg-multihome/fwmark/regular"
)

// stanza is an `iface` of interfaces(5), or a `template` of ifupdown-ng, as its
// text has it: enough to tell whether ifquery is to be asked, and to go by where
// it gives no answer.
type stanza struct {
	name     string
	file     string
	loopback bool
	ppp      bool
	template bool     // never an interface's own
	inherits []string // templates, by ifupdown's keyword
	inherit  []string // and by ifupdown-ng's
	options  []option // those that we read
}

// hasOption reports whether the text has an option of ours.
func (s stanza) hasOption() bool {
	return slices.ContainsFunc(s.options, func(o option) bool { return isOption(o.key) })
}

// speaks reports whether the text has something for us.
func (s stanza) speaks() bool {
	return slices.ContainsFunc(s.options, func(o option) bool { return o.key == "gateway" || isOption(o.key) })
}

// isPPP reports whether the text has a provider of pppd's in place of an interface.
func (s stanza) isPPP() bool {
	return s.ppp || slices.ContainsFunc(s.options, func(o option) bool { return o.key == "ppp-provider" })
}

// Bounds on what a file may source: files, and how deep.
const (
	maxSourced = 512
	maxDepth   = 16
)

// sourceable are the file names that source-directory takes, interfaces(5).
var sourceable = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

// stanzaFile is the text of a file, and of what it sources.
type stanzaFile struct {
	stanzas []stanza
	auto    map[string]bool // by name: an interface is to be brought up by the stanza
	texts   []string        // paths and texts of the files, in turn
	folders []string        // where sourced files lie, or would
	seen    map[string]bool // files that were read: one may source itself
	errs    []error
}

// readStanzas reads a file, and what it sources.
func readStanzas(path string) *stanzaFile {
	r := &stanzaFile{auto: map[string]bool{}, seen: map[string]bool{}}
	r.read(path, 0)
	return r
}

func (r *stanzaFile) read(path string, depth int) {
	if r.seen[path] {
		return
	}
	r.seen[path] = true
	if len(r.seen) > maxSourced || depth > maxDepth {
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
	p := parseInterfaces(string(text))
	for _, s := range p.stanzas {
		s.file = path
		r.stanzas = append(r.stanzas, s)
	}
	for _, name := range p.auto {
		r.auto[name] = true
	}
	for _, s := range p.sources {
		r.folders = append(r.folders, s.folder(filepath.Dir(path)))
		for _, file := range s.files(filepath.Dir(path)) {
			if len(r.seen) > maxSourced {
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

// folder is where the files lie that a line names, or the nearest folder above
// those that its pattern leaves open; relative ones are below base.
func (s source) folder(base string) string {
	pattern := s.pattern
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(base, pattern)
	}
	folder := filepath.Dir(pattern)
	if s.directory {
		folder = filepath.Clean(pattern)
	}
	for strings.ContainsAny(folder, `*?[\`) {
		folder = filepath.Dir(folder)
	}
	return folder
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

// parsed is what one file says.
type parsed struct {
	stanzas []stanza
	sources []source
	auto    []string
	current *stanza // that is being read
}

// parseInterfaces reads the text of one file. A line that makes no sense is
// passed over: it takes nothing else with it.
func parseInterfaces(text string) *parsed {
	p := &parsed{}
	for _, words := range logicalLines(strings.TrimPrefix(text, "\ufeff")) {
		p.take(words[0], words[1:])
	}
	return p
}

func (p *parsed) take(key string, words []string) {
	switch {
	// `template` is ifupdown-ng's; to the others it is nothing that we read.
	case key == "iface", key == "template":
		p.current = nil
		if len(words) > 0 {
			p.stanzas = append(p.stanzas, stanza{name: words[0], template: key == "template"})
			p.current = &p.stanzas[len(p.stanzas)-1]
			p.current.header(words[1:])
		}
	case key == "source", key == "source-directory":
		for _, w := range words {
			p.sources = append(p.sources, source{pattern: w, directory: key == "source-directory"})
		}
		p.current = nil
	case key == "auto", strings.HasPrefix(key, "allow-"):
		p.auto = append(p.auto, words...)
		p.current = nil
	case key == "mapping", key == "rename", key == "no-auto-down", key == "no-scripts", key == "vlan":
		p.current = nil
	case p.current == nil:
	case key == "inherits":
		p.current.inherits = append(p.current.inherits, words...)
	case key == "inherit":
		p.current.inherit = append(p.current.inherit, words...)
	default:
		if isOption(key) || slices.Contains(ownKeys, key) {
			p.current.options = append(p.current.options, option{key, strings.Join(words, " ")})
		}
	}
}

// header reads what follows the name: family, method, `inherits TEMPLATE`.
func (s *stanza) header(words []string) {
	for i, w := range words {
		switch {
		case i > 0 && words[i-1] == "inherits":
			s.inherits = append(s.inherits, w)
		case w == "loopback":
			s.loopback = true
		case w == "ppp" || w == "wvdial":
			s.ppp = true
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
