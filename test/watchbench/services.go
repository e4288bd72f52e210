package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"wg-multihome/fwmark/socket/kernel"
	"wg-multihome/nft/cgroup"
)

// cgroupsVariable holds the directory of the cgroups that the host takes for all.
const cgroupsVariable = "WATCHBENCH_CGROUPS"

// cgroups is a part of the machine's cgroup2 hierarchy.
type cgroups struct{ dir string }

func makeCgroups() (cgroups, error) {
	mount, err := cgroup.Find()
	if err != nil {
		return cgroups{}, err
	}
	dir, err := os.MkdirTemp(mount.Point, "wg-multihome-watchbench-")
	return cgroups{dir}, err
}

// remove removes them, deepest first; nothing lives in them.
func (c cgroups) remove() {
	services, _ := filepath.Glob(filepath.Join(c.dir, "bench.slice", "*.service")) // it is well-formed
	for _, dir := range append(services, filepath.Join(c.dir, "bench.slice"), c.dir) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			fmt.Fprintln(os.Stderr, "watchbench:", err)
		}
	}
}

// cover mounts the bench's cgroups over the machine's.
func (b *bench) cover() error {
	mount, err := cgroup.Find()
	if err != nil {
		return err
	}
	return script(fmt.Sprintf("mount --bind %s %s; mkdir -p %[2]s/bench.slice", os.Getenv(cgroupsVariable), mount.Point))
}

// cgroupActs make a service's cgroup anew. Programs on a cgroup tell nothing, so they
// are asked for until they are there.
func cgroupActs() []act {
	anew := func(name string) (before, do func(*bench, int) error) {
		path := func() (string, error) {
			mount, err := cgroup.Find()
			return filepath.Join(mount.Point, "bench.slice", name), err
		}
		before = func(*bench, int) error {
			dir, err := path()
			if err = errors.Join(err, os.Remove(dir)); errors.Is(err, os.ErrNotExist) {
				return nil
			}
			return err
		}
		do = func(*bench, int) error {
			dir, err := path()
			return errors.Join(err, os.Mkdir(dir, 0o755))
		}
		return before, do
	}
	beforeSocket, bySocket := anew("socket.service")
	beforePacket, byPacket := anew("packet.service")
	return []act{
		{name: "cgroup-anew", second: "cgroups = [\"bench.slice/socket.service\"]\n", before: beforeSocket, do: func(b *bench, i int) error {
			return errors.Join(bySocket(b, i), b.attached("bench.slice/socket.service"))
		}, right: always("attached")},
		{name: "cgroup-anew-packet", second: packetService, before: beforePacket, do: byPacket, right: always("nft paths_0x2000")},
	}
}

// attached waits until all programs are on a cgroup, and says so.
func (b *bench) attached(path string) error {
	mount, err := cgroup.Find()
	if err != nil {
		return err
	}
	c, err := kernel.Open(mount.Point)
	if err != nil {
		return err
	}
	defer c.Close()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Microsecond) {
		places, there := c.IDs(path)
		for _, ids := range places {
			there = there && len(ids) > 0
		}
		if there {
			b.heard <- said{"attached", time.Now()}
			return nil
		}
	}
	return errors.New("no programs are on the cgroup")
}
