package config

import (
	"maps"
	"slices"

	"wg-multihome/fwmark"
)

// found is the text of interfaces(5), as an ifquery of some kind understands it.
type found struct {
	text      *stanzaFile
	kind      dialect
	up        map[string]string // logical by physical name
	byName    map[string][]stanza
	auto      map[string]bool // by name: an interface is to be brought up by the stanza
	inherited map[string]bool
	unread    map[string][]string // by error, the names that ifquery did not answer for
}

func newFound(text *stanzaFile, kind dialect) *found {
	f := &found{text: text, kind: kind, byName: map[string][]stanza{}, auto: map[string]bool{}, inherited: map[string]bool{}, unread: map[string][]string{}}
	for name := range text.auto {
		f.auto[kind.asked(name)] = true
	}
	for _, s := range text.stanzas {
		name := kind.asked(s.name)
		f.byName[name] = append(f.byName[name], s)
		for _, p := range kind.inherits(s) {
			f.inherited[p] = true
		}
	}
	return f
}

func (f *found) hasOption() bool { return slices.ContainsFunc(f.text.stanzas, stanza.hasOption) }

// brought reports whether an interface is up by the stanza, or is to be.
func (f *found) brought(name string) bool {
	if f.auto[name] {
		return true
	}
	for _, logical := range f.up {
		if logical == name {
			return true
		}
	}
	return false
}

// spare reports whether a stanza, which no interface is up by, has its mark from
// another one that is brought up: it waits to be used in its place.
func (f *found) spare(name string, mark fwmark.Mark) bool {
	if mark.IsZero() || f.brought(name) {
		return false
	}
	return f.says(name, func(s stanza) bool {
		other := f.kind.asked(s.name)
		return other != name && f.brought(other) && slices.ContainsFunc(s.options, func(o option) bool {
			m, err := fwmark.Parse(o.value)
			return f.kind.key(o.key) == optionMark && err == nil && m == mark
		})
	})
}

// template reports whether a stanza is there for others to inherit, and is not
// brought up itself.
func (f *found) template(name string) bool { return f.inherited[name] && !f.brought(name) }

// worth returns the names of stanzas that say something to us, but for loopback.
func (f *found) worth() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(f.byName)) {
		all := f.byName[name]
		if f.says(name, stanza.speaks) && !slices.ContainsFunc(all, func(s stanza) bool { return s.loopback || s.template }) {
			names = append(names, name)
		}
	}
	return names
}

// says reports whether one of the stanzas of a name, or of those that it
// inherits from, is as asked.
func (f *found) says(name string, is func(stanza) bool) bool {
	return slices.ContainsFunc(f.chain(name), is)
}

func (f *found) ppp(name string) bool {
	return f.says(name, stanza.isPPP)
}

// options returns what the text says of a name.
func (f *found) options(name string) []option {
	var options []option
	for _, s := range f.chain(name) {
		for _, o := range s.options {
			options = append(options, option{f.kind.key(o.key), o.value})
		}
		options = append(options, option{})
	}
	return options
}

// chain returns the stanzas of a name, each behind those that it inherits from.
func (f *found) chain(name string) []stanza {
	var chain []stanza
	seen := map[string]bool{}
	var add func(string)
	add = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		for _, s := range f.byName[name] {
			for _, p := range f.kind.inherits(s) {
				add(p)
			}
			chain = append(chain, s)
		}
	}
	add(name)
	return chain
}

// origin names a stanza in messages. ifupdown2 may know one that the text does
// not have by this name.
func (f *found) origin(file, name string) string {
	if all := f.byName[name]; len(all) > 0 {
		file = all[0].file
	}
	return file + ": iface " + name
}
