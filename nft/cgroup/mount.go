package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Mount is a mount of the cgroup2 hierarchy. Paths of its methods are relative
// to it, without a leading slash: system.slice/a.service.
type Mount struct {
	Point string // an absolute path: /sys/fs/cgroup, or /sys/fs/cgroup/unified beside version 1
	Root  string // which cgroup is mounted there, as /proc/PID/cgroup would name it: "/" is all of them
}

// Find finds the mount in /proc/self/mountinfo. Of several it is one of all
// cgroups, where there is one. errors.Is(err, fs.ErrNotExist) where there is
// none at all.
func Find() (Mount, error) {
	infos, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	if err != nil {
		return Mount{}, fmt.Errorf("find the cgroup2 mount: %w", err)
	}
	var errs []error
	for _, m := range candidates(infos) {
		fd, err := m.open()
		if err == nil {
			_ = unix.Close(fd) // it is a path alone
			return m, nil
		}
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return Mount{}, errors.Join(errs...)
	}
	return Mount{}, fmt.Errorf("find the cgroup2 mount in /proc/self/mountinfo: %w", fs.ErrNotExist)
}

// candidates returns the mounts, best first: those with the most cgroups. What
// another mount covers is none, and neither is one whose root lies outside of
// this process's cgroup namespace, "/.." (cgroup_namespaces(7)): its cgroups
// have no level here.
func candidates(infos []*mountinfo.Info) []Mount {
	var mounts []Mount
	for _, info := range infos {
		mounts = slices.DeleteFunc(mounts, func(m Mount) bool { return m.Point == info.Mountpoint })
		if info.Root != "/.." && !strings.HasPrefix(info.Root, "/../") {
			mounts = append(mounts, Mount{Point: info.Mountpoint, Root: info.Root})
		}
	}
	slices.SortStableFunc(mounts, func(a, b Mount) int { return cmp.Compare(depth(a.Root), depth(b.Root)) })
	return mounts
}

// depth is the number of names in the path of a mount's root.
func depth(root string) int { return strings.Count(strings.TrimSuffix(root, "/"), "/") }

// Name returns a path as /proc/PID/cgroup has it after "0::".
func (m Mount) Name(path string) string { return strings.TrimSuffix(m.Root, "/") + "/" + path }

// open opens the mount, and makes sure that it is one still: in the empty
// directory that an unmount leaves every cgroup would seem to be gone.
func (m Mount) open() (int, error) {
	fd, err := unix.Open(m.Point, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open the cgroup2 mount", Path: m.Point, Err: err}
	}
	var st unix.Statfs_t
	if err = unix.Fstatfs(fd, &st); err == nil && int64(st.Type) != unix.CGROUP2_SUPER_MAGIC {
		err = errors.New("is no cgroup2 mount any more")
	}
	if err != nil {
		_ = unix.Close(fd) // a path alone
		return -1, &fs.PathError{Op: "open the cgroup2 mount", Path: m.Point, Err: err}
	}
	return fd, nil
}

// openDir opens a cgroup, as a path alone (O_PATH). The error is that of the
// path, errors.Is(err, fs.ErrNotExist) where there is no such cgroup.
func (m Mount) openDir(path string) (*os.File, error) {
	names, err := split(path)
	if err != nil {
		return nil, err
	}
	root, err := m.open()
	if err != nil {
		// Not fs.ErrNotExist: this says nothing of the cgroup.
		return nil, errors.New(err.Error())
	}
	fd, err := walk(root, names)
	if err != nil {
		return nil, &fs.PathError{Op: "open cgroup", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// walk goes down from a directory, name by name, and follows no link. It
// closes the directory that it is given.
func walk(fd int, names []string) (int, error) {
	for _, name := range names {
		next, err := unix.Openat(fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		_ = unix.Close(fd) // a path alone
		switch {
		case errors.Is(err, unix.ENOTDIR): // an attribute file, or a link
			return -1, unix.ENOENT
		case err != nil:
			return -1, err
		}
		fd = next
	}
	return fd, nil
}

func split(path string) ([]string, error) {
	names := strings.Split(path, "/")
	for _, name := range names {
		if name == "" || name == "." || name == ".." || strings.ContainsRune(name, 0) {
			return nil, &fs.PathError{Op: "open cgroup", Path: path, Err: fs.ErrInvalid}
		}
	}
	return names, nil
}
