package cgroup

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"wg-multihome/fwmark"
)

// RunsSlice is above the slices of `run`, as systemd has it by their names.
const RunsSlice = "wgmultihome.slice"

// RunUnit is the name of the slice whose processes `run` pins to an uplink. They
// are the uplink's, whichever mark it has later; the mark's plain value is that
// of the day when the slice was made.
func RunUnit(mark fwmark.Mark, uplink string) string {
	return fmt.Sprintf("%s%#x_%s%s", unitPrefix, mark.Value, escape(uplink), unitSuffix)
}

const (
	unitPrefix = "wgmultihome-"
	unitSuffix = ".slice"
)

// RunSlice is the path of that slice.
func RunSlice(mark fwmark.Mark, uplink string) string { return RunsSlice + "/" + RunUnit(mark, uplink) }

// Run is a slice of `run` that is there.
type Run struct {
	Uplink    string // whose processes live there; "" in a slice of earlier versions
	Value     uint32 // the plain value of the mark that the uplink had
	Slice     Node
	Holds     bool // there is a cgroup in it
	Populated bool // a process lives in it
}

// Runs returns the slices of `run`, by name.
func (m Mount) Runs() ([]Run, error) {
	names, err := m.children(RunsSlice)
	var runs []Run
	errs := []error{err}
	for _, name := range names {
		run, ok := parseRun(name)
		if !ok {
			continue
		}
		path := RunsSlice + "/" + name
		node, ok, err := m.Resolve(path)
		errs = append(errs, err)
		if !ok {
			continue
		}
		populated, err := m.Populated(path)
		errs = append(errs, err)
		held, err := m.children(path)
		errs = append(errs, err)
		run.Slice, run.Holds, run.Populated = node, len(held) > 0, populated
		runs = append(runs, run)
	}
	return runs, errors.Join(errs...)
}

// parseRun is the reverse of RunUnit, and of what it was in earlier versions,
// whose slices went by the mark alone.
func parseRun(unit string) (Run, bool) {
	text, prefixed := strings.CutPrefix(unit, unitPrefix)
	text, suffixed := strings.CutSuffix(text, unitSuffix)
	hex, escaped, named := strings.Cut(text, "_")
	value, err := strconv.ParseUint(hex, 0, 32)
	uplink, ok := unescape(escaped)
	if !prefixed || !suffixed || err != nil || !ok || named && uplink == "" || fmt.Sprintf("%#x", value) != hex || escape(uplink) != escaped {
		return Run{}, false
	}
	return Run{Uplink: uplink, Value: uint32(value)}, true
}

// escape writes what the name of a unit cannot hold, and a dash, which would
// nest the slice, as systemd-escape(1) does.
func escape(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == ':'
		if plain {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

// unescape is the reverse of escape.
func unescape(text string) (name string, ok bool) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, `\x`)
		b.WriteString(before)
		if !found {
			return b.String(), true
		}
		if len(after) < 2 {
			return "", false
		}
		c, err := strconv.ParseUint(after[:2], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(c))
		text = after[2:]
	}
}

// RemoveIdle removes the cgroups below one, as far as no process lives in
// them; left is true where one does. What a living one has below it is its own.
func (m Mount) RemoveIdle(path string) (left bool, err error) {
	names, err := m.children(path)
	if err != nil {
		return true, err
	}
	var errs []error
	for _, name := range names {
		child := path + "/" + name
		populated, err := m.Populated(child)
		if err == nil && !populated {
			populated, err = m.Remove(child)
		}
		left = left || populated || err != nil
		errs = append(errs, err)
	}
	return left, errors.Join(errs...)
}
