package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"wg-multihome/fwmark"
)

// Digest tells the content of the files that the configuration was read from from
// any other. "": it was read from none.
func (c Config) Digest() string {
	if c.source == nil {
		return ""
	}
	h := sha256.New()
	// Lengths keep texts apart. A hash.Hash never returns an error.
	fmt.Fprintf(h, "%d %t\n", len(c.source.toml), c.source.tomlErr == nil)
	h.Write(c.source.toml)
	for _, text := range c.source.interfaces.texts {
		fmt.Fprintf(h, "%d\n%s", len(text), text)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// InPlaceOf returns what was in force before in place of a configuration that is
// not to count, with its files, and a problem that says so; "": without one. nil:
// nothing was in force.
func (c *Config) InPlaceOf(refused Config, problem string) Config {
	instead := Config{Priority: fwmark.DefaultPriority, Group: fwmark.DefaultGroup, HookTimeout: defaultHookTimeout, Withdrawn: true}
	if c != nil {
		instead = *c
		instead.Withdrawn = false
	}
	instead.source, instead.Problems, instead.Notes = refused.source, nil, nil
	if problem != "" {
		instead.Problems = []fwmark.Problem{{Text: problem}}
	}
	return instead
}
