package config

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// dialect is which of three programs an ifquery(8) is. They share the name, the
// file and `--interfaces`, but neither all other flags nor what they print.
type dialect int

const (
	ifupdown   dialect = iota // Debian's
	ifupdown2                 // Proxmox's and Cumulus's
	ifupdownNG                // Alpine's
)

var errNoIfquery = errors.New("ifquery is not installed")

// find returns the path of ifquery, and which one it is.
func (q ifquery) find(ctx context.Context) (string, dialect, error) {
	for _, p := range q.paths {
		if _, err := os.Stat(p); err == nil {
			return p, dialectOf(ctx, p), nil
		}
	}
	return "", ifupdown, errNoIfquery
}

// dialectOf tells by the file that the name is a link to: each of the packages
// has one program under several names. Another one is asked for its version.
func dialectOf(ctx context.Context, path string) dialect {
	if kind, known := linked(path); known {
		return kind
	}
	text, err := run(ctx, path, "--version")
	switch {
	case strings.HasPrefix(text, "ifupdown-ng"):
		return ifupdownNG
	case strings.HasPrefix(text, "ifupdown2") || err != nil && strings.Contains(err.Error(), "ifupdown2"):
		return ifupdown2
	}
	return ifupdown
}

func linked(path string) (kind dialect, known bool) {
	target, err := filepath.EvalSymlinks(path)
	switch base := filepath.Base(target); {
	case err != nil:
		return ifupdown, false
	case base == "ifup":
		return ifupdown, true
	case base == "ifupdown":
		return ifupdownNG, true
	case base == "ifupdown2" || strings.Contains(target, "/ifupdown2/"):
		return ifupdown2, true
	}
	return ifupdown, false
}

// linked returns which one ifquery is, as far as its file tells.
func (q ifquery) linked() dialect {
	for _, p := range q.paths {
		if _, err := os.Stat(p); err == nil {
			kind, _ := linked(p)
			return kind
		}
	}
	return ifupdown
}

// inherits returns the names of the templates that a stanza has options from.
func (d dialect) inherits(s stanza) []string {
	switch d {
	case ifupdown2:
		return nil
	case ifupdownNG:
		return append(s.inherits[:len(s.inherits):len(s.inherits)], s.inherit...)
	}
	return s.inherits
}

// key returns a key as ifquery has it.
func (d dialect) key(key string) string {
	if d == ifupdown2 {
		return strings.ReplaceAll(key, "_", "-")
	}
	return key
}

// asked returns the name that ifquery knows a stanza by. To ifupdown2 an alias
// is its interface.
func (d dialect) asked(name string) string {
	if base, _, alias := strings.Cut(name, ":"); d == ifupdown2 && alias && base != "" {
		return base
	}
	return name
}
