package config

import (
	"strings"
	"testing"
	"unicode"
)

func TestCgroupPath(t *testing.T) {
	for word, want := range map[string]string{
		"transmission-daemon.service":      "system.slice/transmission-daemon.service",
		"ssh.socket":                       "system.slice/ssh.socket",
		"name":                             "system.slice/name",
		"a-b@i.service":                    `system.slice/system-a\x2db.slice/a-b@i.service`,
		"getty@tty1.service":               "system.slice/system-getty.slice/getty@tty1.service",
		`a\x2db@c-d.service`:               `system.slice/system-a\x5cx2db.slice/a\x2db@c-d.service`,
		".a@x@y.socket":                    `system.slice/system-\x2ea.slice/_.a@x@y.socket`,
		"a@b":                              "system.slice/a@b",
		"@b.service":                       "system.slice/@b.service",
		"user.slice":                       "user.slice",
		"x-y.slice":                        "x.slice/x-y.slice",
		"x-y-z.slice":                      "x.slice/x-y.slice/x-y-z.slice",
		`system-a\x2db.slice`:              `system.slice/system-a\x2db.slice`,
		"user.slice/user-1000.slice":       "user.slice/user-1000.slice",
		"/user.slice/user-1000.slice":      "user.slice/user-1000.slice",
		"/docker":                          "docker",
		"/a-b.slice":                       "a-b.slice",
		"io.service":                       "system.slice/_io.service",
		"/system.slice/io.service":         "system.slice/io.service",
		"io-x.slice":                       "_io.slice/io-x.slice",
		"_a.service":                       "system.slice/__a.service",
		"cgroup.service":                   "system.slice/_cgroup.service",
		"io":                               "system.slice/io",
		"a b.service":                      "system.slice/a b.service",
		strings.Repeat("x", maxCgroupName): "system.slice/" + strings.Repeat("x", maxCgroupName),
		strings.Repeat("a/", 254) + "a":    strings.Repeat("a/", 254) + "a",
	} {
		if got, err := cgroupPath(word); got != want || err != nil {
			t.Errorf("%q is %q, %v; want %q", word, got, err, want)
		}
	}
}

func TestCgroupPathErrors(t *testing.T) {
	for word, say := range map[string]string{
		"":                                      "root",
		"/":                                     "root",
		"-.slice":                               "root",
		"..":                                    `holds ".."`,
		".":                                     `holds "."`,
		"/..":                                   `holds ".."`,
		"a/../b":                                `holds ".."`,
		"a/./b":                                 `holds "."`,
		"a//b":                                  "empty",
		"//a":                                   "empty",
		"a/":                                    "empty",
		"a/b\x00c":                              "control character",
		"a\nb.service":                          "control character",
		"a\u0085b.service":                      "control character",
		"/a\x7f":                                "control character",
		"a@.service":                            "template",
		"-a.slice":                              "no slice",
		"a-.slice":                              "no slice",
		"a--b.slice":                            "no slice",
		".slice":                                "no slice",
		"a@b.slice":                             "no slice",
		strings.Repeat("x", maxCgroupName+1):    "longer than 255 bytes",
		strings.Repeat("-", 100) + "@i.service": "longer than 255 bytes",
		"/" + strings.Repeat("a/", maxCgroupLevel) + "a":       "deeper than 255 levels",
		strings.Repeat(strings.Repeat("x", 255)+"/", 16) + "x": "longer than 4095 bytes",
	} {
		got, err := cgroupPath(word)
		if err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%.80q is %.80q, %v; want an error that says %q", word, got, err, say)
		}
	}
}

func FuzzCgroupPath(f *testing.F) {
	for _, s := range []string{"a-b@i.service", "x-y-z.slice", "/a/../b", "a@.service", "\xff\x00@.socket", "-.slice"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, word string) {
		path, err := cgroupPath(word)
		if err != nil {
			return
		}
		checkPath(t, path)
		if again, err := cgroupPath("/" + path); err != nil || again != path {
			t.Errorf("%q is %q, and that is %q, %v", word, path, again, err)
		}
	})
}

// checkPath fails the test where a path is not one that stays below a mount.
func checkPath(t *testing.T, path string) {
	t.Helper()
	if path == "" || len(path) > maxCgroupPath || strings.ContainsFunc(path, unicode.IsControl) {
		t.Errorf("path %q", path)
	}
	for _, name := range strings.Split(path, "/") {
		if name == "" || name == "." || name == ".." || len(name) > maxCgroupName {
			t.Errorf("path %q", path)
		}
	}
}
