package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/socket"
)

// Read returns what stands on cgroups that are there, and above them. listed are
// those that are to have programs, or may have some. all asks every cgroup of the
// mount besides, and returns those of them that have programs of ours.
//
// Whether the kernel takes programs at all is tried only where a listed cgroup does
// not have them all. That it refuses is no error: it stands in the state.
func (c *Client) Read(listed []string, all bool) (socket.State, error) {
	r := reader{client: c, names: map[uint32]string{}, state: socket.State{Cgroups: map[string]socket.Cgroup{}}}
	err := r.listed(listed)
	if err == nil && all {
		err = r.all()
	}
	if err == nil && r.incomplete(listed) {
		err = probe()
	}
	if errors.Is(err, unix.EINVAL) && !refused(err) { // by a query: where there is no CGROUP_BPF, or for another reason
		if why := probe(); why != nil {
			err = why
		}
	}
	if refused(err) {
		var why *socket.Refusal
		errors.As(err, &why)
		r.state.Refused, err = why, nil
	}
	return r.state, err
}

func refused(err error) bool {
	var why *socket.Refusal
	return errors.As(err, &why)
}

type reader struct {
	client *Client
	names  map[uint32]string // of programs: an id is not used again so soon
	state  socket.State
}

// listed reads the cgroups that are there, and all above them.
func (r *reader) listed(paths []string) error {
	for _, path := range paths {
		dir, err := r.client.open(path)
		if gone(err) {
			continue
		}
		if err != nil {
			return err
		}
		err = r.read(path, dir, true)
		_ = dir.Close() // nothing was written
		for above := path; err == nil && above != ""; {
			above = socket.Above(above)
			err = r.above(above)
		}
		if err != nil && !gone(err) {
			return err
		}
	}
	return nil
}

func (r *reader) above(path string) error {
	if _, known := r.state.Cgroups[path]; known {
		return nil
	}
	dir, err := r.client.open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return r.read(path, dir, false)
}

// all reads every cgroup, and keeps those with programs of ours.
func (r *reader) all() error {
	return r.client.walk("", func(string) bool { return false }, func(path string, dir *os.File) error {
		if _, known := r.state.Cgroups[path]; known {
			return nil
		}
		if err := r.read(path, dir, false); err != nil {
			if gone(err) {
				return nil
			}
			return err
		}
		if len(r.state.Cgroups[path].Marks()) == 0 {
			delete(r.state.Cgroups, path)
		}
		return nil
	})
}

// read reads one cgroup, and with first what is called before ours there.
func (r *reader) read(path string, dir *os.File, first bool) error {
	var c socket.Cgroup
	for _, place := range socket.Places {
		ids, flags, err := r.query(path, dir, place, false)
		if err != nil {
			return err
		}
		c.Places[place] = socket.Standing{Programs: ids, Multi: flags&unix.BPF_F_ALLOW_MULTI != 0}
	}
	if first {
		effective, _, err := r.query(path, dir, socket.Create, true)
		if err != nil {
			return err
		}
		c.First = before(effective, c.Places[socket.Create])
	}
	r.state.Cgroups[path] = c
	return nil
}

// before returns the programs that are called before ours. Where there is none of
// ours, those of the cgroup itself would be: what is above it is called later, but
// for programs that ask to be called first, which can be seen only then.
func before(effective []socket.Attached, own socket.Standing) []socket.Attached {
	ours := own.Ours()
	if len(ours) == 0 {
		return own.Programs
	}
	return effective[:max(0, slices.Index(effective, ours[0]))]
}

// IDs returns the ids of the programs at each place of a cgroup, ours and others'.
// there is false where it is not there, or cannot be asked.
func (c *Client) IDs(cgroup string) (ids [len(socket.Places)][]uint32, there bool) {
	dir, err := c.open(cgroup)
	if err != nil {
		return ids, false
	}
	defer dir.Close()
	for _, place := range socket.Places {
		list, _, err := query(int(dir.Fd()), place, false)
		if err != nil {
			return ids, false
		}
		ids[place] = list
	}
	return ids, true
}

// query asks a cgroup for the programs at one place.
func (r *reader) query(path string, dir *os.File, place socket.Place, effective bool) ([]socket.Attached, uint32, error) {
	ids, flags, err := query(int(dir.Fd()), place, effective)
	if err != nil {
		return nil, 0, fmt.Errorf("ask cgroup /%s for programs at %s: %w", path, place, refusal(err))
	}
	var list []socket.Attached
	for _, id := range ids {
		name, err := r.name(id)
		if errors.Is(err, fs.ErrNotExist) { // detached meanwhile
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read program %d at %s of cgroup /%s: %w", id, place, path, refusal(err))
		}
		list = append(list, socket.Attached{ID: id, Name: name})
	}
	return list, flags, nil
}

func (r *reader) name(id uint32) (string, error) {
	if name, known := r.names[id]; known {
		return name, nil
	}
	fd, err := open(id)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	name, err := nameOf(fd)
	if err == nil {
		r.names[id] = name
	}
	return name, err
}

// incomplete reports whether a listed cgroup lacks programs.
func (r *reader) incomplete(listed []string) bool {
	return slices.ContainsFunc(listed, func(path string) bool {
		c, there := r.state.Cgroups[path]
		marks := c.Marks()
		return there && (len(marks) != 1 || !c.Complete(marks[0]))
	})
}
