package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"syscall"

	"wg-multihome/cmd/internal/report"
)

// order says what the waiting process is to become.
type order struct {
	Path        string
	Args        []string // with the name of the command first
	Environment []string
	Privileges  *privileges // nil: those that it has
	Foreground  bool        // it begins in that of its own terminal
}

// newOrder looks up the command and the user. With an error comes the exit
// status that says what went wrong.
func newOrder(q Request) (order, int, error) {
	path, err := exec.LookPath(q.Command[0])
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EISDIR) {
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

// written is an order as it is written: JSON would keep no byte of a string that
// is not UTF-8. An order that was cut short cannot be read.
type written struct {
	Path              []byte
	Args, Environment [][]byte
	Privileges        *privileges
	Foreground        bool
}

func (o order) write(w io.Writer) error {
	text, err := json.Marshal(written{[]byte(o.Path), convert[[]byte](o.Args), convert[[]byte](o.Environment), o.Privileges, o.Foreground})
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

// readOrder reads an order. The error is io.EOF where the parent went without
// giving one.
func readOrder(r io.Reader) (order, error) {
	var w written
	err := json.NewDecoder(r).Decode(&w)
	return order{string(w.Path), convert[string](w.Args), convert[string](w.Environment), w.Privileges, w.Foreground}, err
}

func convert[To, From ~string | ~[]byte](list []From) []To {
	converted := make([]To, len(list))
	for i, v := range list {
		converted[i] = To(v)
	}
	return converted
}

// execute becomes the command. It returns only where that failed.
func (o order) execute() (int, error) {
	if o.Privileges != nil {
		if err := o.Privileges.take(); err != nil {
			return report.Error, err
		}
	}
	return o.failed(syscall.Exec(o.Path, o.Args, o.Environment))
}

// failed says why a command could not be executed.
func (o order) failed(err error) (int, error) {
	status := notExecutable
	if errors.Is(err, fs.ErrNotExist) {
		status = notFound
	}
	return status, fmt.Errorf("execute %s: %w", o.Path, err)
}
