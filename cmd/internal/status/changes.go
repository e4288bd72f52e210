package status

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Change is one difference between two statuses. Before and After are the fields
// that differ, by their names in JSON; of something that came or went all of them.
type Change struct {
	What   string         `json:"what"` // the part of the status: "uplinks", "problems"
	Name   string         `json:"name"` // of what is in it: "wan1 IPv4", or the whole text
	Before map[string]any `json:"before,omitempty"`
	After  map[string]any `json:"after,omitempty"`
	Came   bool           `json:"came,omitempty"`
	Went   bool           `json:"went,omitempty"`
}

// String is the change in one line.
func (c Change) String() string {
	begin := c.What + ": " + c.Name
	switch {
	case c.Came:
		return strings.TrimRight("+ "+begin+fields(c.After), " ")
	case c.Went:
		return "- " + begin
	}
	var list []string
	for _, key := range keys(c.Before, c.After) {
		list = append(list, fmt.Sprintf("%s %s -> %s", key, text(c.Before[key]), text(c.After[key])))
	}
	return "= " + begin + ": " + strings.Join(list, ", ")
}

func fields(m map[string]any) string {
	var list []string
	for _, key := range keys(m, nil) {
		list = append(list, key+" "+text(m[key]))
	}
	if len(list) == 0 {
		return ""
	}
	return ": " + strings.Join(list, ", ")
}

func keys(a, b map[string]any) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

func text(v any) string {
	if v == nil {
		return "none"
	}
	b, _ := json.Marshal(v) // it came from JSON
	return strings.Trim(string(b), `"`)
}

// names are the fields that tell what is in a part of the status from each other.
// What is not here, and is no text, counts only, and its changes are none: packets
// that the lock has dropped.
var names = map[string][]string{"uplinks": {"name", "family"}, "marks": {"mark", "uplink"}, "tunnels": {"device"}, "services": {"cgroup"}}

// ages are what a text has of counters and ages.
var ages = regexp.MustCompile(`\b[0-9]+(\.[0-9]+)?( ?(s|ms|min|h|d|seconds|minutes|hours|days|packets|bytes|connections)\b|[smhd][0-9.smhd]*\b)`)

// volatile are the fields of a peer that are counters and ages.
var volatile = []string{"last_handshake", "last_handshake_age", "received", "sent"}

// Changes returns the changes from one status to another, without counters, ages and
// bytes.
func Changes(before, after Status) []Change {
	a, b := items(before), items(after)
	var list []Change
	for _, at := range slices.SortedFunc(maps.Keys(merged(a, b)), func(x, y item) int {
		return strings.Compare(x.what+"\x00"+x.key, y.what+"\x00"+y.key)
	}) {
		old, was := a[at]
		now, is := b[at]
		c := Change{What: at.what, Came: !was, Went: !is}
		if is {
			c.Name = now.name
		} else {
			c.Name = old.name
		}
		c.Before, c.After = differing(old.fields, now.fields)
		if c.Came || c.Went || len(c.Before)+len(c.After) > 0 {
			list = append(list, c)
		}
	}
	return list
}

func merged[K comparable, V any](a, b map[K]V) map[K]V {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func differing(a, b map[string]any) (before, after map[string]any) {
	before, after = map[string]any{}, map[string]any{}
	for _, key := range keys(a, b) {
		if reflect.DeepEqual(a[key], b[key]) {
			continue
		}
		if v, has := a[key]; has {
			before[key] = v
		}
		if v, has := b[key]; has {
			after[key] = v
		}
	}
	return before, after
}

// item is something in a part of a status; key is its name, without what changes by
// itself.
type item struct{ what, key string }

type value struct {
	name   string
	fields map[string]any
}

// items takes a status apart.
func items(s Status) map[item]value {
	list := map[item]value{}
	encoded, _ := json.Marshal(s) // it has nothing that cannot be encoded
	var all map[string]any
	_ = json.Unmarshal(encoded, &all) // what was just encoded
	for what, part := range all {
		entries, _ := part.([]any)
		if text, is := part.(string); is { // it is left out where there is none
			entries = []any{text}
		}
		for _, entry := range entries {
			switch entry := entry.(type) {
			case string:
				list[item{what, ages.ReplaceAllString(entry, "N")}] = value{name: entry}
			case map[string]any:
				if name := nameOf(what, entry); name != "" {
					list[item{what, name}] = value{name, without(what, entry)}
				}
			}
		}
	}
	return list
}

func nameOf(what string, entry map[string]any) string {
	var parts []string
	for _, key := range names[what] {
		switch v := entry[key].(type) {
		case string:
			parts = append(parts, v)
		case float64:
			parts = append(parts, fmt.Sprintf("IPv%g", v))
		}
	}
	return strings.Join(parts, " ")
}

// without leaves out what the name has, and what changes by itself.
func without(what string, entry map[string]any) map[string]any {
	for _, key := range names[what] {
		delete(entry, key)
	}
	peers, _ := entry["peers"].([]any)
	for _, p := range peers {
		if peer, is := p.(map[string]any); is {
			for _, key := range volatile {
				delete(peer, key)
			}
		}
	}
	return entry
}
