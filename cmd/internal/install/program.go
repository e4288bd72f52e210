package install

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// staff is the group that may write to /usr/local on many a Debian, and whose members
// root trusts (base-passwd's users-and-groups).
const staff = 50

// CheckProgram returns an error that names what of a path others than root may
// change: the file, or a folder above it. Hooks and units run that file as root. path
// is absolute, and without symbolic links.
func CheckProgram(path string) error {
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return err
		}
		if by := changedBy(info); by != "" {
			return fmt.Errorf("%s: %s may change %s, and hooks and units would run it as root: copy it (install -m 755 %[1]s /usr/local/sbin/), and call the copy's install", path, by, at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// changedBy names who, but for root, may change a file, or what is in a folder.
// In one with the sticky bit each may change what is his own.
func changedBy(info fs.FileInfo) string {
	stat, is := info.Sys().(*syscall.Stat_t)
	mode := info.Mode()
	switch {
	case !is:
		return "somebody"
	case stat.Uid != 0:
		return fmt.Sprintf("user %d", stat.Uid)
	case mode.IsDir() && mode&fs.ModeSticky != 0:
		return ""
	case mode&0o002 != 0:
		return "anybody"
	case mode&0o020 != 0 && stat.Gid != 0 && stat.Gid != staff:
		return fmt.Sprintf("group %d", stat.Gid)
	}
	return ""
}
