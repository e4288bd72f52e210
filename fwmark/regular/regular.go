// Package regular opens files where others may have put something else: a FIFO,
// a device, a folder. To open a FIFO waits for its other end; here nothing waits,
// and what is no regular file is refused.
package regular

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

var errNotRegular = errors.New("not a regular file")

// Open opens a file as os.OpenFile does. Its errors name the file.
func Open(path string, flags int, mode os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, flags|syscall.O_NONBLOCK|syscall.O_NOCTTY, mode)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &os.PathError{Op: "open", Path: path, Err: errNotRegular}
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// Read reads a file as os.ReadFile does; one of more bytes than limit is an
// error.
func Read(path string, limit int) ([]byte, error) {
	f, err := Open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > limit:
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return text, nil
}

// Write writes a file as os.WriteFile does.
func Write(path string, text []byte, mode os.FileMode) error {
	f, err := Open(path, os.O_WRONLY|os.O_CREATE, mode)
	if err != nil {
		return err
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.Write(text)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
