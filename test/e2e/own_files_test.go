package e2e

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
)

// TestLabWritesNothingOutside: what is written in a lab is its own, and stays so when
// somebody puts another file in the place of the machine's: a mount on that file would
// go then.
func TestLabWritesNothingOutside(t *testing.T) {
	l := newLab(t)
	for _, path := range []string{"/etc/lab-writes", "/var/lib/lab-writes", "/run/lab-writes"} {
		t.Cleanup(func() { _ = os.Remove(path) }) // it is there where the test fails
		l.Script(": >" + path)
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is the machine's: %v", path, err)
		}
	}
	if r := l.Try(nil, "touch", "/usr/lib"); r.Code == 0 {
		t.Error("/usr can be written")
	}
	for _, place := range strings.Fields(l.Run("findmnt", "-n", "-l", "-o", "TARGET")) {
		if info, err := os.Lstat(l.Path(place)); strings.HasPrefix(place, "/etc/") && err == nil && !info.IsDir() {
			t.Errorf("%s is a mount on a file", place)
		}
	}
}
