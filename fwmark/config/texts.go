package config

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"wg-multihome/fwmark/regular"
)

// texts is what a configuration is read from.
type texts struct {
	files      Files
	toml       []byte
	tomlErr    error
	interfaces *stanzaFile
	state      []byte // ifquery's file of the interfaces that are up; nil: it was not found
}

// stateFile is that file in its directory, and these are the directories: of
// ifupdown and of ifupdown-ng.
const (
	stateFile  = "ifstate"
	runNetwork = "/run/network"
	runItself  = "/run"
)

func readTexts(f Files, q ifquery) texts {
	t := texts{files: f, interfaces: readStanzas(f.Interfaces)}
	t.toml, t.tomlErr = regular.Read(f.TOML, maxFile)
	dir := runNetwork
	switch q.linked() {
	case ifupdown2: // it keeps none that tells us something
		t.state = []byte{}
		return t
	case ifupdownNG:
		dir = runItself
	}
	if q.state != "" {
		dir = q.state
	}
	if text, err := regular.Read(filepath.Join(dir, stateFile), maxFile); err == nil {
		t.state = append([]byte{}, text...)
	}
	return t
}

// equal reports whether two texts are the same, errors included.
func (t texts) equal(o texts) bool {
	text := func(errs ...error) string { return fmt.Sprint(errs) }
	return text(t.tomlErr) == text(o.tomlErr) && bytes.Equal(t.toml, o.toml) && slices.Equal(t.interfaces.texts, o.interfaces.texts) &&
		text(t.interfaces.errs...) == text(o.interfaces.errs...) && bytes.Equal(t.state, o.state)
}

// Texts returns the files that the configuration was read from and that have a text:
// neither one that is absent is among them nor one that is empty.
func (c Config) Texts() []string {
	var files []string
	if c.source == nil {
		return nil
	}
	if c.source.tomlErr == nil && len(bytes.TrimSpace(c.source.toml)) > 0 {
		files = append(files, c.source.files.TOML)
	}
	read := c.source.interfaces.texts
	for i := 0; i+1 < len(read); i += 2 {
		if strings.TrimSpace(read[i+1]) != "" {
			files = append(files, read[i])
		}
	}
	return files
}

// Places returns what the configuration depends on, whether it is there or not:
// files, and folders whose entries count.
func (c Config) Places() (files, folders []string) {
	if c.source == nil {
		return nil, nil
	}
	files = append(files, c.source.files.TOML, c.source.files.Interfaces, filepath.Join(runNetwork, stateFile), filepath.Join(runItself, stateFile))
	files = append(files, slices.Sorted(maps.Keys(c.source.interfaces.seen))...)
	if slices.ContainsFunc(c.source.interfaces.stanzas, stanza.isPPP) {
		folders = append(folders, peersFolder)
	}
	folders = append(folders, c.source.interfaces.folders...)
	slices.Sort(files)
	slices.Sort(folders)
	return slices.Compact(files), slices.Compact(folders)
}

// same reports whether a configuration that was read from t without an error
// would be the same if it were read from o. By their texts, as a file may be
// written twice within one tick of its time. For a provider of pppd's there is
// one more file.
func (t texts) same(o texts) bool {
	asks := slices.ContainsFunc(o.interfaces.stanzas, stanza.speaks)
	return (t.tomlErr == nil) == (o.tomlErr == nil) && bytes.Equal(t.toml, o.toml) &&
		slices.Equal(t.interfaces.texts, o.interfaces.texts) && len(o.interfaces.errs) == 0 &&
		(!asks || t.state != nil && o.state != nil && bytes.Equal(t.state, o.state)) &&
		!slices.ContainsFunc(o.interfaces.stanzas, stanza.isPPP)
}
