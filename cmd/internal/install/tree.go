package install

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"
)

// maxFile bounds what is read of a file, in bytes. Ours have some hundred.
const maxFile = 64 << 10

const folderMode fs.FileMode = 0o755

// Tree is a host's files below a root. No symbolic link, absolute or with `..`,
// leads out of it.
type Tree struct{ root *os.File }

// OpenTree opens a root, "/" for this host's own. From then on the process makes
// folders that everyone can read, as clients read ours under users of their own.
func OpenTree(root string) (*Tree, error) {
	f, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	unix.Umask(0o022)
	return &Tree{f}, nil
}

// Close frees what the tree holds.
func (t *Tree) Close() { _ = t.root.Close() }

// Look learns what the host has. What cannot be read is an error beside what
// could, and counts as an administrator's.
func (t *Tree) Look() (Facts, error) {
	f := Facts{Found: map[Client]string{}, Files: map[string]File{}}
	var errs []error
	for _, p := range probes {
		if _, known := f.Found[p.client]; known {
			continue
		}
		at, err := t.find(p.path)
		if err != nil {
			errs = append(errs, err)
		} else if at != "" {
			f.Found[p.client] = at
		}
	}
	for _, p := range Paths() {
		file, err := t.read(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("read %s: %w", p, err))
		}
		f.Files[p] = file
	}
	return f, errors.Join(errs...)
}

// packageList is dpkg's list of the files of our package.
const packageList = "/var/lib/dpkg/info/wg-multihome.list"

// Packaged reports whether the host has our package: its files are dpkg's to remove.
func (t *Tree) Packaged() (bool, error) {
	found, err := t.find(packageList)
	return found != "", err
}

// folder opens one that is there.
func (t *Tree) folder(name string) (*os.File, error) {
	dir, err := securejoin.OpenatInRoot(t.root, name)
	if errors.Is(err, unix.ENOTDIR) { // a file stands in the way: what is asked for is not there
		return nil, fs.ErrNotExist
	}
	return dir, err
}

// find returns the first path that a probe's pattern matches, "" where none does.
func (t *Tree) find(pattern string) (string, error) {
	dir, err := t.folder(path.Dir(pattern))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look for %s: %w", pattern, err)
	}
	defer dir.Close()
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look for %s: %w", pattern, err)
	}
	listed := os.NewFile(uintptr(fd), path.Dir(pattern))
	defer listed.Close()
	names, err := listed.Readdirnames(-1)
	if err != nil {
		return "", err
	}
	found := ""
	for _, name := range names {
		if ok, _ := path.Match(path.Base(pattern), name); ok && (found == "" || name < found) { // the patterns are well-formed
			found = name
		}
	}
	if found == "" {
		return "", nil
	}
	return path.Join(path.Dir(pattern), found), nil
}

// read reads what lies at a path, and follows no link that lies there.
func (t *Tree) read(name string) (File, error) {
	dir, err := t.folder(path.Dir(name))
	if err != nil {
		return File{}, err
	}
	defer dir.Close()
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), path.Base(name), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if errors.Is(err, unix.ENOTDIR) {
			err = fs.ErrNotExist
		}
		return File{}, err
	}
	file := File{Mode: fs.FileMode(st.Mode & 0o7777)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		file.Text, err = readText(dir, path.Base(name))
	case unix.S_IFLNK:
		file.Type = fs.ModeSymlink
		var n int
		target := make([]byte, unix.PathMax)
		n, err = unix.Readlinkat(int(dir.Fd()), path.Base(name), target)
		file.Target = string(target[:max(n, 0)])
	default:
		file.Type = fs.ModeIrregular
	}
	return file, err
}

func readText(dir *os.File, name string) (string, error) {
	// Should it be a FIFO by now, it does not keep us.
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	return string(text), err
}

// Do does what a line says. A file is there whole or not at all, whenever the
// process ends.
func (t *Tree) Do(l Line) error {
	var err error
	switch l.Act {
	case Write:
		err = t.write(l)
	case Remove:
		err = t.remove(l.Path, l.Entry.ownFolder)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", map[Act]string{Write: "write", Remove: "remove"}[l.Act], l.Path, err)
	}
	return nil
}

// scratch is the name under which a file is made. Hooks' folders pass over names
// with a dot, and the next run takes what is left of a former one.
func scratch(name string) string { return "." + name + ".new" }

func (t *Tree) write(l Line) error {
	dir, err := securejoin.MkdirAllHandle(t.root, path.Dir(l.Path), folderMode)
	if err != nil {
		return err
	}
	defer dir.Close()
	fd, name := int(dir.Fd()), path.Base(l.Path)
	if err := unix.Unlinkat(fd, scratch(name), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if l.Entry.Target != "" {
		err = unix.Symlinkat(l.Entry.Target, fd, scratch(name))
	} else {
		err = writeText(fd, scratch(name), l.text, l.Entry.Mode)
	}
	if err == nil {
		err = unix.Renameat(fd, scratch(name), fd, name)
	}
	if err != nil {
		_ = unix.Unlinkat(fd, scratch(name), 0)
	}
	return err
}

func writeText(dir int, name, text string, mode fs.FileMode) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.WriteString(text)
	return errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
}

// remove removes a file or a link, and the folder where that is ours and empty. What
// is not there is fine.
func (t *Tree) remove(name string, ownFolder bool) error {
	dir, err := t.folder(path.Dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, n := range []string{path.Base(name), scratch(path.Base(name))} {
		if err := unix.Unlinkat(int(dir.Fd()), n, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if !ownFolder {
		return nil
	}
	above, err := t.folder(path.Dir(path.Dir(name)))
	if err != nil {
		return err
	}
	defer above.Close()
	// Where others have a file there, it stays.
	err = unix.Unlinkat(int(above.Fd()), path.Base(path.Dir(name)), unix.AT_REMOVEDIR)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}
