package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// PurgeFile removes a file that is named, and reports whether it was there.
// dryRun says that it stays.
func (t *Tree) PurgeFile(name string, dryRun bool) (bool, error) {
	if _, err := t.read(name); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if dryRun {
		return true, nil
	}
	if err := t.remove(name, false); err != nil {
		return false, fmt.Errorf("remove %s: %w", name, err)
	}
	return true, nil
}

// PurgeFolder removes what has one of the names in a folder, files and folders of
// files, and then the folder; and reports whether it was there. A folder that has
// anything else stays, with an error: it may have been named by mistake. dryRun says
// that all of it stays.
func (t *Tree) PurgeFolder(name string, names []string, dryRun bool) (bool, error) {
	dir, err := t.folder(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("remove %s: %w", name, err)
	}
	defer dir.Close()
	if dryRun {
		return true, nil
	}
	var errs []error
	for _, n := range names {
		if err := removeAll(int(dir.Fd()), n); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", path.Join(name, n), err))
		}
	}
	above, err := t.folder(path.Dir(name))
	if err != nil {
		return true, errors.Join(append(errs, err)...)
	}
	defer above.Close()
	if err := unix.Unlinkat(int(above.Fd()), path.Base(name), unix.AT_REMOVEDIR); err != nil {
		errs = append(errs, fmt.Errorf("remove %s: %w", name, err))
	}
	return true, errors.Join(errs...)
}

// removeAll removes a file, or a folder with the files in it.
func removeAll(dir int, name string) error {
	err := unix.Unlinkat(dir, name, 0)
	if !errors.Is(err, unix.EISDIR) {
		return absentIsFine(err)
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return absentIsFine(err)
	}
	folder := os.NewFile(uintptr(fd), name)
	defer folder.Close()
	files, err := folder.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := absentIsFine(unix.Unlinkat(fd, f, 0)); err != nil {
			return err
		}
	}
	return absentIsFine(unix.Unlinkat(dir, name, unix.AT_REMOVEDIR))
}

func absentIsFine(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
