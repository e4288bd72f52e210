package config

import (
	"bytes"
	"path/filepath"
	"slices"

	"wg-multihome/fwmark/regular"
)

// texts is what a configuration is read from.
type texts struct {
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
	t := texts{interfaces: readStanzas(f.Interfaces)}
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
