package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/nft"
	"wg-multihome/nft/cgroup"
	"wg-multihome/policy"
)

// readCgroups resolves the configured paths, and the slices of `run` that hold
// a cgroup, to what is there now.
func (h *Host) readCgroups(_ context.Context, o *decide.Observation) error {
	c := decide.Cgroups{ByPath: map[string]nft.Cgroup{}, Names: map[uint64]string{}}
	o.Cgroups = c
	o.Failed(decide.Services)
	paths, marks := configured(o)
	if marks == 0 && !o.Table.Have.MarksConnections() && len(policy.Standing(o.Facts)) == 0 { // nothing can be pinned, by us or by `run`
		return nil
	}
	mount, err := cgroup.Find()
	if err != nil {
		c.Unread = true
		if len(paths) > 0 || !errors.Is(err, fs.ErrNotExist) {
			o.Failed(decide.Services, fmt.Errorf("services cannot be pinned: %w", err))
		}
		o.Cgroups = c
		return nil
	}
	var errs []error
	for _, path := range paths {
		node, there, err := mount.Resolve(path)
		if there {
			c.ByPath[path] = nft.Cgroup{ID: node.ID, Level: node.Level}
			c.Names[node.ID] = path
		}
		errs = append(errs, err)
	}
	runs, err := mount.Runs()
	for _, run := range runs {
		c.Names[run.Slice.ID] = run.Slice.Path
		if run.Holds {
			slice := nft.Cgroup{ID: run.Slice.ID, Level: run.Slice.Level}
			c.Runs = append(c.Runs, decide.RunSlice{Uplink: run.Uplink, Value: run.Value, Cgroup: slice, Lives: run.Populated})
		}
	}
	errs = append(errs, err)
	c.Unread = errors.Join(errs...) != nil
	c.Unlisted = unlisted(mount, o.Table.Have, c.Names)
	o.Cgroups = c
	o.Failed(decide.Services, errs...)
	return nil
}

// configured returns the paths of the configuration, sorted, and how many marks
// it has.
func configured(o *decide.Observation) (paths []string, marks int) {
	for _, c := range o.Configs() {
		for _, in := range c.Intents {
			paths = append(paths, in.Cgroups...)
			if !in.Mark.IsZero() {
				marks++
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), marks
}

// unlisted returns the paths of the cgroups that our sets hold and that are
// there, but for those with a name.
func unlisted(mount cgroup.Mount, have nft.State, names map[uint64]string) map[uint64]string {
	var found map[uint64]string
	for _, id := range have.Paths() {
		if names[id] != "" {
			continue
		}
		if path, there := mount.PathOf(id); there {
			if found == nil {
				found = map[uint64]string{}
			}
			found[id] = path
		}
	}
	return found
}
