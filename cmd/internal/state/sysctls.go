package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// sysctlsDir has a file for each interface whose src_valid_mark was set by us,
// from 0.
const sysctlsDir = "sysctl"

// sysctl is such a file. It says what the value was, for a person who looks.
type sysctl struct {
	SrcValidMark int `json:"src_valid_mark"`
}

// ReadSysctls returns the interfaces whose src_valid_mark was set by us.
func (d Dir) ReadSysctls() (map[string]bool, error) {
	entries, err := os.ReadDir(filepath.Join(string(d), sysctlsDir))
	set := map[string]bool{}
	for _, entry := range entries {
		if iface, ok := ifaceOf(entry.Name()); ok {
			set[iface] = true
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return set, fmt.Errorf("read which sysctls were set: %w", err)
	}
	return set, nil
}

// WriteSysctl notes that an interface's src_valid_mark is about to be set.
func (d Dir) WriteSysctl(iface string) error {
	if err := d.write(sysctlsDir, iface, sysctl{}); err != nil {
		return fmt.Errorf("note that a sysctl is set: %w", err)
	}
	return nil
}

// DropSysctl notes that an interface's src_valid_mark was put back.
func (d Dir) DropSysctl(iface string) error {
	path, err := d.path(sysctlsDir, iface)
	if err == nil {
		err = remove(path)
	}
	if err != nil {
		return fmt.Errorf("note that a sysctl was put back: %w", err)
	}
	return nil
}
