package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/socket"
)

// Client reads and changes what is attached to the cgroups of one mount. It is not
// for several goroutines at once.
type Client struct {
	// Conntrack tells of connections; nil: it knows none.
	Conntrack Conntrack

	mount  *os.File
	loaded map[string]int // programs that were loaded, by name: cgroups share them
}

// Open opens a mount of cgroup2, by its directory: /sys/fs/cgroup, or
// /sys/fs/cgroup/unified beside version 1.
func Open(point string) (*Client, error) {
	fd, err := unix.Open(point, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open the cgroup2 mount", Path: point, Err: err}
	}
	mount := os.NewFile(uintptr(fd), point)
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil || int64(st.Type) != unix.CGROUP2_SUPER_MAGIC {
		_ = mount.Close() // nothing was written
		if err == nil {
			err = errors.New("is no mount of cgroup2")
		}
		return nil, &fs.PathError{Op: "open the cgroup2 mount", Path: point, Err: err}
	}
	return &Client{mount: mount, loaded: map[string]int{}}, nil
}

// Close gives up what it has open. What is attached stays.
func (c *Client) Close() {
	for _, fd := range c.loaded {
		_ = unix.Close(fd) // a program has nothing to lose
	}
	clear(c.loaded)
	_ = c.mount.Close() // nothing was written
}

// open opens a cgroup by its path below the mount, "" for the mount's own.
// errors.Is(err, fs.ErrNotExist) where there is none.
func (c *Client) open(cgroup string) (*os.File, error) {
	name := cgroup
	if name == "" {
		name = "."
	}
	if cgroup == "." || !filepath.IsLocal(name) || path.Clean(name) != name {
		return nil, &fs.PathError{Op: "open cgroup", Path: cgroup, Err: fs.ErrInvalid}
	}
	fd, err := unix.Openat(int(c.mount.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) { // an attribute file
		err = unix.ENOENT
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open cgroup", Path: cgroup, Err: err}
	}
	return os.NewFile(uintptr(fd), cgroup), nil
}

// walk calls visit for a cgroup and all below it, those above first, but for
// those that are gone meanwhile and those that skip tells with what is below them.
func (c *Client) walk(cgroup string, skip func(string) bool, visit func(cgroup string, dir *os.File) error) error {
	if skip(cgroup) {
		return nil
	}
	dir, err := c.open(cgroup)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := visit(cgroup, dir); err != nil {
		return err
	}
	entries, err := dir.ReadDir(-1)
	if err != nil && !gone(err) {
		return fmt.Errorf("list cgroup /%s: %w", cgroup, err)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := c.walk(path.Join(cgroup, e.Name()), skip, visit); err != nil {
			return err
		}
	}
	return nil
}

// gone reports whether an error says that a cgroup was removed, before or while it
// was asked.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }

// program returns a program, loaded.
func (c *Client) program(p socket.Program) (int, error) {
	name := p.Name()
	if fd, is := c.loaded[name]; is {
		return fd, nil
	}
	fd, err := loadOurs(p)
	if err == nil {
		c.loaded[name] = fd
	}
	return fd, err
}

func loadOurs(p socket.Program) (int, error) {
	fd, err := load(p.Place, p.Code, p.Name())
	if err != nil {
		return -1, fmt.Errorf("load program %s: %w", p.Name(), refusal(err))
	}
	return fd, nil
}

// refusal makes a reason of an error of bpf(2) that is one.
func refusal(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return &socket.Refusal{Reason: socket.Denied, Err: err}
	case errors.Is(err, unix.ENOSYS):
		return &socket.Refusal{Reason: socket.NoBPF, Err: err}
	}
	return err
}

// probe asks whether a program that does nothing is taken: nil if it is, a refusal
// or another error if not.
func probe() error {
	const name = "wgmh_probe"
	fd, err := load(socket.Create, socket.Nothing(), name)
	if errors.Is(err, unix.EINVAL) {
		return &socket.Refusal{Reason: socket.NoCgroups, Err: unix.EINVAL}
	}
	if err != nil {
		return refusal(fmt.Errorf("load program %s: %w", name, err))
	}
	_ = unix.Close(fd) // a program has nothing to lose
	return nil
}
