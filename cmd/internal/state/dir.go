package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/regular"
)

// Dir is the path of STATE-DIR. It need not exist: reading finds nothing then,
// writing makes it.
type Dir string

const (
	leasesDir = "leases"
	toldDir   = "told"
	suffix    = ".json"

	dirMode  = 0o755
	fileMode = 0o644

	// maxFile bounds what is read of a file, in bytes. A record takes some 200.
	maxFile = 64 << 10
)

// path returns the file of an interface in one of the folders.
func (d Dir) path(folder, iface string) (string, error) {
	if err := fwmark.ValidName(iface); err != nil {
		return "", fmt.Errorf("%q %w", iface, err)
	}
	return filepath.Join(string(d), folder, iface+suffix), nil
}

// ifaceOf is the reverse of path's last element.
func ifaceOf(file string) (iface string, ok bool) {
	iface, ok = strings.CutSuffix(file, suffix)
	return iface, ok && fwmark.ValidName(iface) == nil
}

// makeDir makes STATE-DIR and a folder in it, "" for none, readable by all
// whatever the umask of a DHCP client: `status` is for everyone.
func (d Dir) makeDir(folder string) error {
	for _, dir := range []string{string(d), filepath.Join(string(d), folder)} {
		if _, err := os.Stat(dir); err == nil {
			continue
		}
		if err := os.MkdirAll(dir, dirMode); err != nil {
			return err
		}
		if err := os.Chmod(dir, dirMode); err != nil {
			return err
		}
	}
	return nil
}

// write puts v into a file, whole or not at all. The file is readable by all.
func (d Dir) write(folder, iface string, v any) error {
	path, err := d.path(folder, iface)
	if err != nil {
		return err
	}
	return d.put(folder, path, v)
}

func (d Dir) put(folder, path string, v any) error {
	text, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := d.makeDir(folder); err != nil {
		return err
	}
	return replace(path, append(text, '\n'))
}

// WriteJSON puts v into a file of STATE-DIR itself, whole or not at all.
func (d Dir) WriteJSON(file string, v any) error {
	return d.put("", filepath.Join(string(d), file), v)
}

// Flush has the disk hold which files STATE-DIR has now, and that it is there itself:
// after a power failure a name that was written or removed last may else be as it was.
func (d Dir) Flush() error {
	for _, dir := range []string{string(d), filepath.Dir(string(d))} {
		if err := flush(dir); err != nil {
			return err
		}
	}
	return nil
}

func flush(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// ReadJSON fills v from a file of STATE-DIR itself, of so many bytes at most; its
// errors name the file. errors.Is(err, fs.ErrNotExist) where there is none.
func (d Dir) ReadJSON(file string, v any, most int) error {
	return read(filepath.Join(string(d), file), v, most)
}

// Write puts text into a file of STATE-DIR itself, whole or not at all.
func (d Dir) Write(file string, text []byte) error {
	if err := d.makeDir(""); err != nil {
		return err
	}
	return replace(filepath.Join(string(d), file), append(text, '\n'))
}

// replace is renameio.WriteFile, but for the permissions of a file that is
// there already: those are not kept.
func replace(path string, text []byte) error {
	// Without WithTempDir renameio tries TMPDIR first, which is the caller's.
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(fileMode))
	if err != nil {
		return err
	}
	defer func() { _ = f.Cleanup() }() // after the rename there is nothing left to clean
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// read fills v from a file; its errors name the file. errors.Is(err,
// fs.ErrNotExist) where there is none.
func read(path string, v any, most int) error {
	text, err := regular.Read(path, most)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// remove removes a file; one that is not there is fine.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
