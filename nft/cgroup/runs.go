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

// RunUnit is the name of the slice whose processes `run` pins by a mark. It
// goes by the mark's plain value, as names of sets do.
func RunUnit(mark fwmark.Mark) string { return fmt.Sprintf("wgmultihome-%#x.slice", mark.Value) }

// RunSlice is the path of that slice.
func RunSlice(mark fwmark.Mark) string { return RunsSlice + "/" + RunUnit(mark) }

// Run is a slice of `run` that is there.
type Run struct {
	Value     uint32 // the mark's plain value
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
		value, ok := valueOf(name)
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
		runs = append(runs, Run{value, node, len(held) > 0, populated})
	}
	return runs, errors.Join(errs...)
}

// valueOf is the reverse of RunUnit.
func valueOf(unit string) (uint32, bool) {
	hex := strings.TrimSuffix(strings.TrimPrefix(unit, "wgmultihome-0x"), ".slice")
	value, err := strconv.ParseUint(hex, 16, 32)
	if err != nil || RunUnit(fwmark.Mark{Value: uint32(value)}) != unit {
		return 0, false
	}
	return uint32(value), true
}

// RemoveRuns removes the slices of `run` and the cgroups in them, as far as no
// process lives there; left is true where one does.
func (m Mount) RemoveRuns() (left bool, err error) {
	names, err := m.children(RunsSlice)
	if err != nil {
		return true, err
	}
	var errs []error
	for _, name := range names {
		if _, ours := valueOf(name); !ours {
			continue
		}
		path := RunsSlice + "/" + name
		_, err := m.RemoveIdle(path)
		errs = append(errs, err)
		_, err = m.rmdir(path)
		errs = append(errs, err)
	}
	left, err = m.rmdir(RunsSlice)
	return left, errors.Join(append(errs, err)...)
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
