package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// programs are built, by where a package has them.
var programs = []struct{ path, source string }{
	{"/usr/sbin/wg-multihome", "wg-multihome/cmd/wg-multihome"},
	{"/usr/bin/wg-multihome-demo", "wg-multihome/test/demo"},
}

// programs builds what has a machine's language in it, with the copyright of what is
// linked into it.
func (r release) programs(dir string, env []string) ([]file, error) {
	var files []file
	for _, p := range programs {
		built := filepath.Join(dir, filepath.Base(p.path))
		if err := r.build(built, p.source, env); err != nil {
			return nil, err
		}
		data, err := os.ReadFile(built)
		if err != nil {
			return nil, err
		}
		files = append(files, file{path: p.path, mode: 0o755, data: data})
	}
	text, err := copyright(files)
	if err != nil {
		return nil, err
	}
	return append(files, file{path: docs + "copyright", mode: 0o644, data: []byte(text)}), nil
}

// build builds a program so that where and by whom makes no difference. test/run builds
// with the same flags, so most is there already.
func (r release) build(path, source string, env []string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -X main.released="+r.version, "-o", path, source)
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOEXPERIMENT=", "GOFIPS140=off"), env...)
	_, err := output(cmd)
	return err
}

// native builds the program for this machine, to ask it for files.
func (r release) native(dir string) (string, error) {
	path := filepath.Join(dir, "wg-multihome")
	for _, env := range architectures { // built once: go keeps it
		if env[0] == "GOARCH="+runtime.GOARCH {
			return path, r.build(path, programs[0].source, env)
		}
	}
	return path, r.build(path, programs[0].source, nil)
}
