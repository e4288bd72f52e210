package state

import (
	"errors"
	"io"
	"os"
	"syscall"
)

var errNotRegular = errors.New("not a regular file")

// openRegular opens a file that is to be a regular one. It waits for nobody:
// opening a FIFO would wait for its other end, and one that lies in STATE-DIR
// would keep every run of ours waiting for ever.
func openRegular(path string, flags int, mode os.FileMode) (*os.File, error) {
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

// readRegular reads a file as os.ReadFile does, up to limit bytes.
func readRegular(path string, limit int64) ([]byte, error) {
	f, err := openRegular(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// writeRegular writes a file as os.WriteFile does.
func writeRegular(path string, text []byte) error {
	f, err := openRegular(path, os.O_WRONLY|os.O_CREATE, fileMode)
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
