package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/socket"
)

// Apply makes the changes of a step, one after the other, up to the first that
// fails. What was done stays: the next step for the cgroup begins there. That a
// cgroup is gone, with its programs, is no error where they were to go.
//
// errors.As finds a *socket.Refusal where the kernel does not let us. The report
// tells of sockets, also with an error.
func (c *Client) Apply(ctx context.Context, step socket.Step) (Report, error) {
	var report Report
	dir, err := c.open(step.Cgroup)
	if gone(err) && step.Mark.IsZero() {
		return report, nil
	}
	if err != nil {
		return report, err
	}
	defer dir.Close()
	for _, change := range step.Changes {
		if change.Kind == socket.Give {
			err = c.Give(ctx, change.Remark, &report)
		} else {
			err = c.change(dir, change)
		}
		if err != nil && !(gone(err) && step.Mark.IsZero()) {
			return report, fmt.Errorf("cgroup /%s: %w", step.Cgroup, err)
		}
	}
	return report, nil
}

func (c *Client) change(dir *os.File, change socket.Change) error {
	if change.Kind == socket.Only {
		return c.only(dir, change)
	}
	p := socket.ProgramFor(change.Place, change.Mark)
	var fd int
	var err error
	if change.Again {
		if fd, err = loadOurs(p); err == nil {
			defer unix.Close(fd) // attached, it stays
		}
	} else {
		fd, err = c.program(p)
	}
	if err != nil {
		return err
	}
	if change.Kind == socket.Replace {
		return c.replace(dir, fd, change, p.Name())
	}
	if err := attach(int(dir.Fd()), fd, change.Place); err != nil {
		return fmt.Errorf("attach %s at %s: %w", p.Name(), change.Place, exclusive(err, dir, change.Place))
	}
	return nil
}

// exclusive makes a reason of the kernel's refusal to attach a program that it has
// let us load: it is that of another one.
func exclusive(err error, dir *os.File, place socket.Place) error {
	if errors.Is(err, unix.EPERM) {
		return &socket.Refusal{Reason: socket.Exclusive, Cgroup: dir.Name(), Place: place, Err: err}
	}
	return err
}

func (c *Client) replace(dir *os.File, fd int, change socket.Change, name string) error {
	old, err := open(change.Old.ID)
	if err == nil {
		defer unix.Close(old)
		err = replace(int(dir.Fd()), fd, old, change.Place)
	}
	if err != nil {
		return fmt.Errorf("replace %s (id %d) at %s by %s: %w", change.Old.Name, change.Old.ID, change.Place, name, exclusive(err, dir, change.Place))
	}
	return nil
}

// only detaches all of ours at a place, but for one program of the mark.
func (c *Client) only(dir *os.File, change socket.Change) error {
	r := reader{client: c, names: map[uint32]string{}}
	standing, _, err := r.query(dir.Name(), dir, change.Place, false)
	if err != nil {
		return err
	}
	keep := -1
	if !change.Mark.IsZero() {
		name := socket.ProgramFor(change.Place, change.Mark).Name()
		keep = slices.IndexFunc(standing, func(a socket.Attached) bool { return a.Name == name })
	}
	for i, a := range standing {
		if _, ours := a.Mark(); !ours || i == keep {
			continue
		}
		if err := detachID(dir, a.ID, change.Place); err != nil {
			return fmt.Errorf("detach %s (id %d) at %s: %w", a.Name, a.ID, change.Place, err)
		}
	}
	return nil
}

// detachID detaches a program; that it is not attached any more is fine.
func detachID(dir *os.File, id uint32, place socket.Place) error {
	fd, err := open(id)
	if err == nil {
		err = detach(int(dir.Fd()), fd, place)
		_ = unix.Close(fd) // a program has nothing to lose
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return refusal(err)
}
