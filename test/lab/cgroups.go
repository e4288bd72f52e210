package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Cgroups is a part of the machine's cgroup2 hierarchy that the host takes for
// the whole of it: what a person calls looks at all of them, and labs run side by
// side. As cgroups have no namespaces that all kernels count levels in alike, it is
// mounted over the real one.
type Cgroups struct {
	t     testing.TB
	Root  string // its path, as seen from outside and in /proc/PID/cgroup: "/wg-multihome-lab-1"
	dir   string // the same as a directory
	mount string // where the host has it
}

// Cgroups returns the host's cgroup2 hierarchy, empty at first. It goes with the
// test, and so do the processes in it.
func (l *Lab) Cgroups() Cgroups { return l.cgroups }

// newCgroups makes a part of the machine's hierarchy.
func newCgroups(t testing.TB) Cgroups {
	t.Helper()
	mount := cgroupMount(t)
	dir, err := os.MkdirTemp(mount, "wg-multihome-lab-")
	if err != nil {
		t.Fatalf("make a cgroup (as root): %v", err)
	}
	fatal(t, os.Chmod(dir, 0o755)) // status is for everyone
	c := Cgroups{t: t, Root: "/" + filepath.Base(dir), dir: dir, mount: mount}
	t.Cleanup(func() { c.remove() })
	return c
}

// remove ends all that lives in the cgroups, and removes them, deepest first.
func (c Cgroups) remove() {
	c.Kill("")
	list := c.list()
	for i := len(list) - 1; i >= 0; i-- {
		fatal(c.t, os.Remove(filepath.Join(c.dir, list[i])))
	}
	fatal(c.t, os.Remove(c.dir))
}

// list returns the paths of all cgroups below the root, those above first.
func (c Cgroups) list() []string {
	c.t.Helper()
	var paths []string
	fatal(c.t, filepath.WalkDir(c.dir, func(path string, d os.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err == nil && d.IsDir() && path != c.dir {
			paths = append(paths, strings.TrimPrefix(path, c.dir+"/"))
		}
		return err
	}))
	return paths
}

// List returns the paths of all cgroups, one to a line.
func (c Cgroups) List() string {
	c.t.Helper()
	var b strings.Builder
	for _, path := range c.list() {
		b.WriteString(path + "\n")
	}
	return b.String()
}

// Make makes a cgroup, and those above it.
func (c Cgroups) Make(path string) {
	c.t.Helper()
	fatal(c.t, os.MkdirAll(filepath.Join(c.dir, path), 0o755))
}

// Remove removes a cgroup that is empty.
func (c Cgroups) Remove(path string) {
	c.t.Helper()
	fatal(c.t, os.Remove(filepath.Join(c.dir, path)))
}

// Kill ends all that lives in a cgroup, "" for all of them, and waits until it
// is empty.
func (c Cgroups) Kill(path string) {
	c.t.Helper()
	fatal(c.t, os.WriteFile(filepath.Join(c.dir, path, "cgroup.kill"), []byte("1"), 0))
	Until(c.t, "cgroup "+path+" is empty", func() bool { return c.Empty(path) })
}

// Empty reports whether nothing lives in a cgroup and below it.
func (c Cgroups) Empty(path string) bool {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, path, "cgroup.events"))
	fatal(c.t, err)
	return strings.Contains(string(text), "populated 0\n")
}
