package wg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"regexp"
	"strconv"
	"syscall"
)

// ReadError says that a device could not be read. It may be there all the same.
type ReadError struct {
	Device string
	Err    error
}

func (e *ReadError) Error() string {
	return fmt.Sprintf("read WireGuard device %q: %s", e.Device, e.Err)
}

// Unwrap returns what the reading met.
func (e *ReadError) Unwrap() error { return e.Err }

// errAnswer stands for every error about the content of an answer.
var errAnswer = errors.New("its answer cannot be read")

// uapiErrno is wgctrl's error for an answer of a userspace device that says no.
var uapiErrno = regexp.MustCompile(`^read: wguser: errno=-?([0-9]{1,4})$`)

// explained returns an error that can be shown. wgctrl's errors about what it
// could not parse quote the line, and that may hold a private key, so only
// those pass that come from the operating system or from here.
func explained(err error) error {
	var errno syscall.Errno
	var op *net.OpError
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("not permitted, it takes CAP_NET_ADMIN (and root for a userspace device): %w", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, errSilent), errors.Is(err, errHangs), errors.Is(err, errAnswer),
		errors.As(err, &errno), errors.As(err, &op):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it hung up")
	}
	if match := uapiErrno.FindStringSubmatch(err.Error()); match != nil {
		n, _ := strconv.Atoi(match[1]) // four digits at most
		return fmt.Errorf("the device answered: %w", syscall.Errno(n))
	}
	return errAnswer
}
