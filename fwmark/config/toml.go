package config

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/spelling"
)

// readTOML takes in the TOML file. It is walked by hand, so that one refused
// value takes nothing else with it.
func (c *Config) readTOML(path string, text []byte) {
	var top map[string]any
	if err := toml.Unmarshal(text, &top); err != nil {
		c.undecided()
		var syntax toml.ParseError
		if errors.As(err, &syntax) {
			c.refuse("%s: line %d: %s", path, syntax.Position.Line, quote(syntax.Message))
		} else {
			c.refuse("%s: %s", path, quote(err.Error()))
		}
		return
	}
	w := walker{config: c, path: path}
	for _, key := range slices.Sorted(maps.Keys(top)) {
		switch value := top[key]; key {
		case "priority":
			w.priority(value)
		case "group":
			w.group(value)
		case "hook-timeout":
			w.hookTimeout(value)
		case "marking":
			c.Marking = w.marking(key, value)
		case "uplink":
			w.each("uplink", value, w.uplink)
		case "wireguard":
			w.each("wireguard", value, w.wireguard)
		default:
			w.unknown("", "", key, value)
		}
	}
}

// keys are those of the file itself, and of its tables [uplink.NAME] and
// [wireguard.NAME].
var keys = map[string][]string{
	"":          {"priority", "group", "hook-timeout", "marking", "uplink", "wireguard"},
	"uplink":    {"fwmark", "gateway", "wireguard", "cgroups", "marking", "through", "source"},
	"wireguard": {"config", "rotate-port"},
}

type walker struct {
	config *Config
	path   string
}

func (w walker) refuse(format string, args ...any) {
	w.config.refuse("%s: %s", w.path, fmt.Sprintf(format, args...))
}

// unknown refuses a key of a table [kind.NAME], or of the file itself: then kind is
// empty.
func (w walker) unknown(kind, name, key string, value any) {
	where := ""
	if kind != "" {
		where = fmt.Sprintf(" of %s %q", kind, name)
	}
	w.refuse("key %s%s is not known%s", quote(key), where, meant(kind, name, key, value))
}

// meant says what may have been meant by a key that is not known. One that is a
// table itself comes from a dot in a name: to TOML [uplink.enp2s0.5] is table 5 of
// enp2s0.
func meant(kind, name, key string, value any) string {
	if table, ok := value.(map[string]any); ok && kind != "" {
		return fmt.Sprintf("; a name with a dot takes quotes: [%s.%s]", kind, quote(dotted(name+"."+key, table)))
	}
	for _, other := range []string{"uplink", "wireguard"} {
		if slices.Contains(keys[other], key) {
			return fmt.Sprintf(" here: it belongs below [%s.NAME]", other)
		}
	}
	if slices.Contains(keys[""], key) {
		return " here: it belongs above all tables"
	}
	hint := spelling.DidYouMean(key, keys[kind])
	if _, ok := value.(map[string]any); ok && hint == "" {
		return fmt.Sprintf("; the table of an uplink is [uplink.%s]", quote(key))
	}
	return hint
}

// dotted adds to a name what lies in its table, while that is one table alone.
func dotted(name string, table map[string]any) string {
	for key, value := range table {
		if inner, ok := value.(map[string]any); ok && len(table) == 1 {
			return dotted(name+"."+key, inner)
		}
	}
	return name
}

func (w walker) priority(value any) {
	n, ok := value.(int64)
	if !ok || n < minPriority || n > maxPriority {
		w.refuse("priority = %s is no number from %d to %d", show(value), minPriority, maxPriority)
		w.config.Priority = 0
		return
	}
	w.config.Priority = uint32(n)
}

func (w walker) group(value any) {
	n, ok := value.(int64)
	if !ok || n < 1 || n > maxGroup {
		w.refuse("group = %s is no number from 1 to %d", show(value), maxGroup)
		w.config.Group = 0
		return
	}
	w.config.Group = uint32(n)
}

func (w walker) hookTimeout(value any) {
	s, _ := value.(string)
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > maxHookTimeout {
		w.refuse("hook-timeout = %s is no time up to %s, as \"20s\"", show(value), maxHookTimeout)
		return
	}
	w.config.HookTimeout = d
}

// each walks the tables [kind.NAME].
func (w walker) each(kind string, value any, take func(name, where string, table map[string]any)) {
	tables, ok := value.(map[string]any)
	if !ok {
		w.refuse("%s = %s is no table", kind, show(value))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		if err := fwmark.ValidName(name); err != nil {
			w.refuse("%s %s %s", kind, quote(name), err)
			continue
		}
		table, ok := tables[name].(map[string]any)
		if !ok {
			w.refuse("%s %s = %s is no table", kind, quote(name), show(tables[name]))
			continue
		}
		take(name, fmt.Sprintf("%s %q", kind, name), table)
	}
}

func (w walker) uplink(name, where string, table map[string]any) {
	in := fwmark.Intent{Uplink: name, Origin: w.path + ": " + where}
	for _, key := range slices.Sorted(maps.Keys(table)) {
		value, at := table[key], where+": "+key
		switch key {
		case "fwmark":
			in.Mark = w.mark(at, value)
		case "gateway":
			for _, s := range w.words(at, value) {
				if err := addGateway(&in.Gateways, s); err != nil {
					w.refuse("%s: %s", at, err)
				}
			}
		case "wireguard":
			in.Devices = w.names(at, value)
		case "cgroups":
			in.Cgroups = w.cgroups(at, value)
		case "marking":
			in.Marking = w.marking(at, value)
		case "through":
			in.Through = w.prefixes(at, value, parseThrough)
		case "source":
			in.Sources = w.prefixes(at, value, parseSource)
		default:
			w.unknown("uplink", name, key, value)
		}
	}
	w.config.Intents = append(w.config.Intents, in)
}

func (w walker) wireguard(name, where string, table map[string]any) {
	var d WireGuard
	for _, key := range slices.Sorted(maps.Keys(table)) {
		ok := false
		switch value := table[key]; key {
		case "config":
			d.Config, ok = value.(string)
			if ok = ok && filepath.IsAbs(d.Config) && !strings.ContainsRune(d.Config, 0); !ok {
				d.Config = ""
				w.refuse("%s: config = %s is no absolute path", where, show(value))
			}
		case "rotate-port":
			if d.RotatePort, ok = value.(bool); !ok {
				w.refuse("%s: rotate-port = %s is neither true nor false", where, show(value))
			}
		default:
			w.unknown("wireguard", name, key, value)
		}
	}
	w.config.WireGuard[name] = d
}

// mark reads a number, or a text as fwmark.Parse reads it. The zero Mark is
// that of a refused one.
func (w walker) mark(at string, value any) fwmark.Mark {
	text, ok := value.(string)
	if n, isNumber := value.(int64); isNumber {
		text, ok = fmt.Sprint(n), true
	}
	if !ok {
		w.refuse("%s = %s is no mark", at, show(value))
		return fwmark.Mark{}
	}
	m, err := fwmark.Parse(text)
	if err != nil {
		w.refuse("%s: %s", at, clip(err.Error()))
	}
	return m
}

// marking reads how services are marked.
func (w walker) marking(at string, value any) fwmark.Marking {
	text, _ := value.(string)
	m, err := fwmark.ParseMarking(text)
	if err != nil {
		w.refuse("%s = %s %s", at, show(value), err)
	}
	return m
}

// words reads a list of texts, or one text. It is not nil where the key is
// there: an empty list counts.
func (w walker) words(at string, value any) []string {
	list, ok := value.([]any)
	if s, single := value.(string); single {
		list, ok = []any{s}, true
	}
	if !ok {
		w.refuse("%s = %s is no list of texts", at, show(value))
		return nil
	}
	words := []string{}
	for _, v := range list {
		s, ok := v.(string)
		switch {
		case !ok || s == "" || !printable(s):
			w.refuse("%s: %s is no name", at, show(v))
		case !slices.Contains(words, s):
			words = append(words, s)
		}
	}
	return words
}

// names is words, of network interfaces.
func (w walker) names(at string, value any) []string {
	return slices.DeleteFunc(w.words(at, value), func(s string) bool {
		err := fwmark.ValidName(s)
		if err != nil {
			w.refuse("%s: %s %s", at, quote(s), err)
		}
		return err != nil
	})
}

// cgroups is words, of cgroups, as their paths.
func (w walker) cgroups(at string, value any) []string {
	words := w.words(at, value)
	if words == nil {
		return nil
	}
	paths := []string{} // not nil: an empty list counts
	for _, s := range words {
		path, err := cgroupPath(s)
		if err != nil {
			w.refuse("%s: %s %s", at, quote(s), clip(err.Error()))
			continue
		}
		w.config.noteCgroup(w.path+": "+at, s, path)
		addOnce(&paths, path)
	}
	return paths
}

// prefixes is words, of prefixes as parse takes them.
func (w walker) prefixes(at string, value any, parse func(string) (netip.Prefix, error)) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, s := range w.words(at, value) {
		p, err := parse(s)
		if err != nil {
			w.refuse("%s: %s", at, err)
			continue
		}
		addOnce(&prefixes, p)
	}
	return prefixes
}

// addGateway reads a gateway, and puts it in the place of its family.
func addGateway(to *[2]netip.Addr, s string) error {
	addr, err := netip.ParseAddr(s)
	switch {
	case err != nil || addr.Zone() != "" || addr.Is4In6():
		return fmt.Errorf("gateway %s is no address", quote(s))
	case addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast():
		return fmt.Errorf("gateway %s is no address of a router", quote(s))
	}
	f := fwmark.FamilyOf(addr)
	if to[f].IsValid() && to[f] != addr {
		return fmt.Errorf("gateway %s is the second one of IPv%s, after %s", quote(s), f, to[f])
	}
	to[f] = addr
	return nil
}

// show writes a TOML value into a message.
func show(value any) string {
	if s, ok := value.(string); ok {
		return quote(s)
	}
	return clip(strings.Join(strings.Fields(fmt.Sprint(value)), " "))
}

// clip bounds a text that quotes a value.
func clip(s string) string {
	const limit = 240
	if len(s) > limit {
		s = s[:limit] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
