// Package config reads what the configuration says of uplinks: ifupdown's
// interfaces(5), by ifquery(8), and a TOML file. What it refuses becomes a
// problem; the valid remainder stands.
//
// It checks words and values. Whether uplinks agree with each other,
// fwmark.AgreePrefixes and fwmark.Resolve decide.
package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"reflect"
	"slices"
	"time"

	"wg-multihome/fwmark"
)

// Files says where the configuration is.
type Files struct {
	Interfaces string // interfaces(5); may be absent
	TOML       string
	TOMLNamed  bool // by a person: then it may not be absent
}

// WireGuard is what the TOML file says of a device.
type WireGuard struct {
	Config     string // wg-quick's file for it, an absolute path; "": not said
	RotatePort bool
}

// Config is the configuration, as far as it is valid.
type Config struct {
	Priority    uint32         // where our rules start; 0: it cannot be told, because of an error
	Group       uint32         // the link group of uplinks; 0: it cannot be told, because of an error
	HookTimeout time.Duration  // for all hooks of one run
	Marking     fwmark.Marking // of uplinks that say nothing of it
	Intents     []fwmark.Intent
	WireGuard   map[string]WireGuard
	Problems    []fwmark.Problem
	Notes       []string // what was understood, where one may have meant something else

	// Withdrawn says that nothing of ours is to stand.
	Withdrawn bool

	source *texts // what it was read from; nil: nothing was read
}

// Ranges, and the default of hook-timeout. At least 100 rules of others fit in
// front of ours, and ours end before main's, 32766. Group 0 is that of every device,
// and to the kernel a group is a signed number, of which -1 suppresses nothing.
const (
	minPriority        = 100
	maxPriority        = 32761
	maxGroup           = math.MaxInt32
	defaultHookTimeout = 20 * time.Second
	maxHookTimeout     = 10 * time.Minute
)

// maxFile bounds what is read of one file, in bytes.
const maxFile = 1 << 20

// Load reads the configuration. Errors in it are Problems of the Config, and so
// is a named TOML file which is not there.
func Load(ctx context.Context, f Files) Config { return Config{}.Again(ctx, f) }

// Again reads the configuration anew, as Load does. The files are read in any
// case. Where they have not changed since c was read from them, and neither has
// which interfaces are up, ifquery is not asked: it would say the same.
func (c Config) Again(ctx context.Context, f Files) Config {
	return c.again(ctx, f, ifupdownFiles{query: ifquery{paths: ifqueryPaths}, peers: peersFolder})
}

// IfChanged is Again, but for a configuration with an error: where its files are the
// same, ifquery is not asked once more, and the error stands.
func (c Config) IfChanged(ctx context.Context, f Files) Config {
	i := ifupdownFiles{query: ifquery{paths: ifqueryPaths}, peers: peersFolder}
	if c.source != nil && len(c.Problems) > 0 && c.source.equal(readTexts(f, i.query)) {
		return c
	}
	return c.again(ctx, f, i)
}

// Same reports whether two configurations say the same.
func (c Config) Same(o Config) bool {
	if c.source != nil && c.source == o.source {
		return true
	}
	c.source, o.source = nil, nil
	return reflect.DeepEqual(c, o)
}

func (c Config) again(ctx context.Context, f Files, i ifupdownFiles) Config {
	i.file = f.Interfaces
	source := readTexts(f, i.query)
	if c.source != nil && len(c.Problems) == 0 && c.source.same(source) {
		return c
	}
	return parse(ctx, f, source, i)
}

// parse makes a configuration of what was read.
func parse(ctx context.Context, f Files, source texts, i ifupdownFiles) Config {
	c := Config{Priority: fwmark.DefaultPriority, Group: fwmark.DefaultGroup, HookTimeout: defaultHookTimeout, WireGuard: map[string]WireGuard{}, source: &source}
	switch err := source.tomlErr; {
	case errors.Is(err, fs.ErrNotExist) && f.TOMLNamed:
		c.undecided()
		c.refuse("read configuration: %s", err)
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		c.undecided()
		c.Problems = append(c.Problems, fwmark.Problem{Text: err.Error()})
	default:
		c.readTOML(f.TOML, source.toml)
	}
	c.readInterfaces(ctx, source.interfaces, i)
	for n := range c.Intents {
		in := &c.Intents[n]
		for _, d := range in.Devices {
			if c.WireGuard[d].RotatePort && !slices.Contains(in.RotatePort, d) {
				in.RotatePort = append(in.RotatePort, d)
			}
		}
	}
	slices.SortStableFunc(c.Intents, func(a, b fwmark.Intent) int {
		return cmp.Or(cmp.Compare(a.Uplink, b.Uplink), cmp.Compare(a.Origin, b.Origin))
	})
	intents, problems := fwmark.AgreePrefixes(c.Intents)
	c.Intents, c.Problems = intents, append(c.Problems, problems...)
	return c
}

// undecided leaves open what the TOML file says for all uplinks.
func (c *Config) undecided() { c.Priority, c.Group, c.Marking = 0, 0, fwmark.Undecided }

// MarkingOf is how the services of an uplink are marked.
func (c Config) MarkingOf(in fwmark.Intent) fwmark.Marking { return in.Marking.Or(c.Marking) }

// MarksSockets reports whether some uplink's services are to be marked by socket.
func (c Config) MarksSockets() bool {
	return slices.ContainsFunc(c.Intents, func(in fwmark.Intent) bool {
		return !in.Mark.IsZero() && c.MarkingOf(in) == fwmark.BySocket
	})
}

func (c *Config) refuse(format string, args ...any) {
	c.Problems = append(c.Problems, fwmark.Problem{Text: fmt.Sprintf(format, args...)})
}

// quote shows a value in one line, cut where it is long.
func quote(s string) string { return fmt.Sprintf("%.120q", s) }
