package run

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"syscall"

	"wg-multihome/cmd/internal/report"
)

// order says what the waiting process is to become. It is encoded by gob: that
// keeps every byte of an argument, and an order that was cut short cannot be
// decoded.
type order struct {
	Path        string
	Args        []string // with the name of the command first
	Environment []string
	Privileges  *privileges // nil: those that it has
}

// newOrder looks up the command and the user. With an error comes the exit
// status that says what went wrong.
func newOrder(q Request) (order, int, error) {
	path, err := exec.LookPath(q.Command[0])
	if errors.Is(err, fs.ErrPermission) {
		return order{}, notExecutable, err
	}
	if err != nil {
		return order{}, notFound, err
	}
	o := order{Path: path, Args: q.Command, Environment: os.Environ()}
	if q.User != "" {
		u, err := lookUp(q.User)
		if err != nil {
			return order{}, report.Error, err
		}
		o.Privileges = &u.privileges
		o.Environment = u.environment(o.Environment)
	}
	return o, report.Done, nil
}

func (o order) write(w io.Writer) error { return gob.NewEncoder(w).Encode(o) }

// readOrder reads an order. The error is io.EOF where the parent went without
// giving one.
func readOrder(r io.Reader) (order, error) {
	var o order
	err := gob.NewDecoder(r).Decode(&o)
	return o, err
}

// execute becomes the command. It returns only where that failed.
func (o order) execute() (int, error) {
	if o.Privileges != nil {
		if err := o.Privileges.take(); err != nil {
			return report.Error, err
		}
	}
	err := syscall.Exec(o.Path, o.Args, o.Environment)
	status := notExecutable
	if errors.Is(err, fs.ErrNotExist) {
		status = notFound
	}
	return status, fmt.Errorf("execute %s: %w", o.Path, err)
}
