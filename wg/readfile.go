package wg

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// maxFile bounds what is read of a configuration file, in bytes.
const maxFile = 4 << 20

// ReadFile reads a device's configuration file. Where there is none, that is an
// fs.ErrNotExist.
func ReadFile(path string) (File, error) {
	// O_NONBLOCK: opening a FIFO would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return File{}, err
	}
	if !info.Mode().IsRegular() {
		return File{}, fmt.Errorf("%s is no regular file", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return File{}, fmt.Errorf("read %s: %w", path, err)
	}
	if len(text) > maxFile {
		return File{}, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return ParseFile(path, text)
}
