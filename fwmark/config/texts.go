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
	interfaces reader
	state      []byte // ifupdown's file of the interfaces that are up; nil: it was not found
}

// stateFile is that file in ifupdown's state directory, and that directory's
// usual place. Others that come with an ifquery keep it elsewhere.
const (
	stateFile  = "ifstate"
	runNetwork = "/run/network"
)

func readTexts(f Files, q ifquery) texts {
	t := texts{interfaces: readStanzas(f.Interfaces)}
	t.toml, t.tomlErr = regular.Read(f.TOML, maxFile)
	dir := q.stateDir
	if dir == "" {
		dir = runNetwork
	}
	if text, err := regular.Read(filepath.Join(dir, stateFile), maxFile); err == nil {
		t.state = append([]byte{}, text...)
	}
	return t
}

// same reports whether a configuration that was read from t without an error
// would be the same if it were read from o. By their texts, as a file may be
// written twice within one tick of its time.
func (t texts) same(o texts) bool {
	return (t.tomlErr == nil) == (o.tomlErr == nil) && bytes.Equal(t.toml, o.toml) &&
		slices.Equal(t.interfaces.texts, o.interfaces.texts) && len(o.interfaces.errs) == 0 &&
		(len(worthAsking(o.interfaces.stanzas)) == 0 || t.state != nil && o.state != nil && bytes.Equal(t.state, o.state))
}
