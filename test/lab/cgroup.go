package lab

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// cgroupMount returns where cgroup2 is mounted: alone, or beside version 1.
func cgroupMount(t testing.TB) string {
	t.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	fatal(t, err)
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		if strings.HasPrefix(after, "cgroup2 ") {
			return strings.Fields(before)[4]
		}
	}
	t.Fatal("cgroup2 is mounted nowhere")
	return ""
}

// slice is the cgroup of the host that the labs' services are in.
const slice = "wgmhtest.slice"

// Slice returns the path, below the mount, of a cgroup for services.
func (l *Lab) Slice() string {
	l.t.Helper()
	fatal(l.t, os.MkdirAll(l.cgroupDir(""), 0o755))
	return slice
}

// cgroupDir is the directory of a path below the lab's slice, seen from outside.
func (l *Lab) cgroupDir(path string) string { return filepath.Join(l.cgroups.dir, slice, path) }

// CgroupDir is the host's directory of a path below the mount.
func (l *Lab) CgroupDir(path string) string { return filepath.Join(l.cgroups.mount, path) }

// MakeCgroup makes a cgroup below the lab's slice, and returns its path below
// the mount, as a configuration has it.
func (l *Lab) MakeCgroup(path string) string {
	l.t.Helper()
	fatal(l.t, os.MkdirAll(l.cgroupDir(path), 0o755))
	return filepath.Join(slice, path)
}

// RemoveCgroup removes a cgroup and those in it.
func (l *Lab) RemoveCgroup(path string) {
	l.t.Helper()
	dir := l.cgroupDir(path)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	fatal(l.t, err)
	for _, e := range entries {
		if e.IsDir() {
			l.RemoveCgroup(filepath.Join(path, e.Name()))
		}
	}
	// A process that was ended is gone from it a little later.
	Until(l.t, "cgroup "+path+" is empty", func() bool {
		err = os.Remove(dir)
		return err == nil || errors.Is(err, os.ErrNotExist)
	})
}

// inCgroup returns a command that runs args in a cgroup below the mount.
func (l *Lab) inCgroup(cgroup string, args []string) []string {
	return l.inCgroupFrom(l.Namespace, cgroup, args)
}

// inCgroupFrom does so for a command in another namespace, which may see the machine's
// hierarchy.
func (l *Lab) inCgroupFrom(from *Namespace, cgroup string, args []string) []string {
	if cgroup == "" {
		return args
	}
	dir := filepath.Join(l.cgroups.dir, cgroup)
	if from.mounts {
		dir = l.CgroupDir(cgroup)
	}
	return append([]string{"sh", "-euc", `echo $$ >"$0"; exec "$@"`, filepath.Join(dir, "cgroup.procs")}, args...)
}
