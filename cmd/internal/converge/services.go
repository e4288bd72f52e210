package converge

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/nft/cgroup"
)

// readCgroups resolves the configured paths, and the slices of `run` that hold
// a cgroup, to what is there now. It returns the paths by id. What cannot be
// read is not gone: then all that is pinned stays.
func (h *Host) readCgroups(v *View) map[uint64]string {
	f := &v.Table.Facts
	f.Cgroups, f.Runs = map[string]nft.Cgroup{}, map[fwmark.Mark][]nft.Cgroup{}
	names := map[uint64]string{}
	if len(v.Pins) == 0 { // nothing can be pinned, by us or by `run`
		return names
	}
	configured := map[string]bool{}
	for _, p := range v.Pins {
		for _, path := range p.Cgroups {
			configured[path] = true
		}
	}
	mount, err := cgroup.Find()
	if err != nil {
		if len(configured) > 0 || !errors.Is(err, fs.ErrNotExist) {
			v.Errs = append(v.Errs, fmt.Errorf("services cannot be pinned: %w", err))
		}
		f.Unseen = true
		return names
	}
	for _, path := range slices.Sorted(maps.Keys(configured)) {
		node, ok, err := mount.Resolve(path)
		v.Errs = appendErr(v.Errs, err)
		f.Unseen = f.Unseen || err != nil
		if ok {
			f.Cgroups[path] = cgroupOf(node)
			names[node.ID] = path
		}
	}
	runs, err := mount.Runs()
	v.Errs = appendErr(v.Errs, err)
	f.Unseen = f.Unseen || err != nil
	for _, run := range runs {
		names[run.Slice.ID] = run.Slice.Path
		for _, p := range v.Pins {
			if p.Mark.Value == run.Value && run.Holds {
				f.Runs[p.Mark] = append(f.Runs[p.Mark], cgroupOf(run.Slice))
			}
		}
	}
	return names
}

func cgroupOf(n cgroup.Node) nft.Cgroup { return nft.Cgroup{ID: n.ID, Level: n.Level} }
