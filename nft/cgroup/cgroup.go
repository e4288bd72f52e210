package cgroup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Node is a cgroup as nftables matches it: `socket cgroupv2 level LEVEL`
// compared with its id.
type Node struct {
	Path  string
	Level int    // 1 for those right below the root
	ID    uint64 // new whenever the cgroup is made anew
}

// Resolve tells the id of a cgroup. ok is false, without an error, where there
// is no such cgroup now.
func (m Mount) Resolve(path string) (node Node, ok bool, err error) {
	d, err := m.openDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Node{}, false, nil
	case err != nil:
		return Node{}, false, err
	}
	defer d.Close()
	id, err := idOf(int(d.Fd()))
	if err != nil {
		return Node{}, false, &fs.PathError{Op: "read id of cgroup", Path: path, Err: err}
	}
	names, _ := split(path) // that it can be split, openDir has seen
	return Node{Path: path, Level: depth(m.Root) + len(names), ID: id}, true, nil
}

// Tree returns the ids of a cgroup and of all below it; none where it is not there.
func (m Mount) Tree(path string) ([]uint64, error) {
	node, there, err := m.Resolve(path)
	if err != nil || !there {
		return nil, err
	}
	ids := []uint64{node.ID}
	children, err := m.children(path)
	errs := []error{err}
	for _, child := range children {
		below, err := m.Tree(path + "/" + child)
		ids, errs = append(ids, below...), append(errs, err)
	}
	return ids, errors.Join(errs...)
}

// fileidKernfs is FILEID_KERNFS of the kernel's linux/exportfs.h: a handle
// that is the 64-bit id of a cgroup, in native byte order.
const fileidKernfs = 0xfe

// idOf returns the id of a cgroup. That is the directory's inode, but on a
// 32-bit kernel, whose inodes lack the upper half of it; its file handle does
// not.
func idOf(fd int) (uint64, error) {
	if h, _, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH); err == nil && h.Type() == fileidKernfs && h.Size() == 8 {
		return binary.NativeEndian.Uint64(h.Bytes()), nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}

// PathOf returns the path of the cgroup with an id. there is false where there is
// none any more, and where the kernel cannot tell.
func (m Mount) PathOf(id uint64) (path string, there bool) {
	mount, err := unix.Open(m.Point, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", false
	}
	defer unix.Close(mount)
	fd, err := unix.OpenByHandleAt(mount, unix.NewFileHandle(fileidKernfs, binary.NativeEndian.AppendUint64(nil, id)), unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return "", false
	}
	defer unix.Close(fd)
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return "", false
	}
	return strings.CutPrefix(name, m.Point+"/")
}

// Populated reports whether a process lives in the cgroup or below it. In one
// that is not there, none does.
func (m Mount) Populated(path string) (bool, error) {
	text, err := m.read(path, "cgroup.events")
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV): // removed before or while it was read
		return false, nil
	case err != nil:
		return false, err
	}
	return bytes.Contains(text, []byte("populated 1\n")), nil
}

// Make makes a cgroup, and those above it that are missing.
func (m Mount) Make(path string) error {
	names, err := split(path)
	if err != nil {
		return err
	}
	fd, err := m.open()
	if err != nil {
		return err
	}
	for _, name := range names {
		err := unix.Mkdirat(fd, name, dirMode)
		if err == nil {
			err = unix.Fchmodat(fd, name, dirMode, 0) // whatever the umask: status is for everyone
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			_ = unix.Close(fd) // a path alone
			return &fs.PathError{Op: "make cgroup", Path: path, Err: err}
		}
		if fd, err = walk(fd, []string{name}); err != nil {
			return &fs.PathError{Op: "make cgroup", Path: path, Err: err}
		}
	}
	return unix.Close(fd)
}

const dirMode = 0o755

// Enter moves a process, all threads of it, into a cgroup. Sockets that it has
// made already stay where they were made.
func (m Mount) Enter(path string, pid int) error {
	d, err := m.openDir(path)
	if err != nil {
		return err
	}
	defer d.Close()
	f, err := openat(d, "cgroup.procs", os.O_WRONLY)
	if err == nil {
		defer f.Close()
		_, err = f.WriteString(strconv.Itoa(pid))
	}
	if err != nil {
		return fmt.Errorf("move process %d into cgroup %s: %w", pid, path, err)
	}
	return nil
}

// Remove removes a cgroup, whatever empty ones are below it, and nothing else:
// where a process lives in one, that one and those above it stay, and left is
// true. One that is not there is fine.
func (m Mount) Remove(path string) (left bool, err error) {
	children, err := m.children(path)
	if err != nil {
		return true, err
	}
	var errs []error
	for _, child := range children {
		childLeft, err := m.Remove(path + "/" + child)
		left = left || childLeft
		errs = append(errs, err)
	}
	if left || errors.Join(errs...) != nil {
		return true, errors.Join(errs...)
	}
	return m.rmdir(path)
}

func (m Mount) rmdir(path string) (left bool, err error) {
	names, err := split(path)
	if err != nil {
		return true, err
	}
	fd, err := m.open()
	if err != nil {
		return true, err
	}
	last := len(names) - 1
	if fd, err = walk(fd, names[:last]); err == nil {
		err = unix.Unlinkat(fd, names[last], unix.AT_REMOVEDIR)
		_ = unix.Close(fd) // a path alone
	}
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return false, nil
	case errors.Is(err, unix.EBUSY): // a process, or a cgroup that came meanwhile
		return true, nil
	}
	return true, &fs.PathError{Op: "remove cgroup", Path: path, Err: err}
}

// children returns the names of the cgroups right below one, sorted; none where
// it is not there.
func (m Mount) children(path string) ([]string, error) {
	d, err := m.openDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	list, err := openat(d, ".", os.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list cgroup %s: %w", path, err)
	}
	defer list.Close()
	entries, err := list.ReadDir(-1)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list cgroup %s: %w", path, err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// maxAttribute bounds what is read of an attribute file, in bytes.
const maxAttribute = 4 << 10

func (m Mount) read(path, attribute string) ([]byte, error) {
	d, err := m.openDir(path)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	f, err := openat(d, attribute, os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("read cgroup %s: %w", path, err)
	}
	defer f.Close()
	text := make([]byte, maxAttribute)
	n, err := f.Read(text) // the kernel gives such a file whole
	if err != nil {
		return nil, fmt.Errorf("read cgroup %s: %w", path, err)
	}
	return text[:n], nil
}

func openat(d *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(d.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
