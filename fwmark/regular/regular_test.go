package regular

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestKinds(t *testing.T) {
	dir := t.TempDir()
	for name, put := range map[string]func(path string) error{
		"fifo":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"to a fifo": func(path string) error { return os.Symlink("fifo", path) },
		"device":    func(path string) error { return os.Symlink("/dev/zero", path) },
		"file":      func(path string) error { return os.WriteFile(path, []byte("text"), 0o600) },
		"to a file": func(path string) error { return os.Symlink("file", path) },
		"absent":    func(string) error { return nil },
		"large":     func(path string) error { return os.WriteFile(path, []byte("texts"), 0o600) },
	} {
		if err := put(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"fifo": ": not a regular file", "directory": ": not a regular file", "to a fifo": ": not a regular file", "device": ": not a regular file",
		"absent": ": no such file or directory", "large": " is larger than 4 bytes", "file": "", "to a file": "",
	} {
		path := filepath.Join(dir, name)
		text, err := Read(path, 4)
		switch {
		case want == "" && (err != nil || string(text) != "text"):
			t.Errorf("%s: %q, %v", name, text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), path+want)):
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if (name == "absent") != errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v is ErrNotExist", name, err)
		}
	}
	if err := Write(filepath.Join(dir, "fifo"), nil, 0o600); err == nil {
		t.Error("a FIFO was written")
	}
	for _, text := range []string{"shorter", "new"} {
		if err := Write(filepath.Join(dir, "new"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if now, err := Read(filepath.Join(dir, "new"), 10); err != nil || string(now) != text {
			t.Errorf("wrote %q, read %q, %v", text, now, err)
		}
	}
}
