package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

// file is one of a package's: a file, or a symbolic link.
type file struct {
	path   string // absolute, where the package is installed
	mode   fs.FileMode
	data   []byte
	target string // of a link, else ""
}

const docs = "/usr/share/doc/wg-multihome/"

// common are the files that are the same on all architectures.
func (r release) common(work string) ([]file, error) {
	program, err := r.native(work)
	if err != nil {
		return nil, err
	}
	files, err := installed(program, filepath.Join(work, "tree"))
	if err != nil {
		return nil, err
	}
	for _, add := range []func(string) ([]file, error){completion, r.manPages, r.documents} {
		more, err := add(program)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	sort.Slice(files, func(i, j int) bool { return files[i].path < files[j].path })
	return files, nil
}

// installed are the hooks and units that the program writes for a package.
func installed(program, tree string) ([]file, error) {
	if err := os.Mkdir(tree, 0o755); err != nil {
		return nil, err
	}
	if _, err := output(exec.Command(program, "install", "--root", tree, "--package")); err != nil {
		return nil, err
	}
	var files []file
	err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		f := file{path: strings.TrimPrefix(path, tree), mode: info.Mode().Perm()}
		if info.Mode().Type() == fs.ModeSymlink {
			f.target, err = os.Readlink(path)
		} else {
			f.data, err = os.ReadFile(path)
		}
		files = append(files, f)
		return err
	})
	return files, err
}

// completion is where the shells' packages look for it.
func completion(program string) ([]file, error) {
	var files []file
	for shell, path := range map[string]string{
		"bash": "/usr/share/bash-completion/completions/wg-multihome",
		"fish": "/usr/share/fish/vendor_completions.d/wg-multihome.fish",
		"zsh":  "/usr/share/zsh/vendor-completions/_wg-multihome",
	} {
		text, err := output(exec.Command(program, "completion", shell))
		if err != nil {
			return nil, err
		}
		files = append(files, file{path: path, mode: 0o644, data: []byte(text + "\n")})
	}
	return files, nil
}

// overrides tell lintian what is meant to be so.
const overrides = `# Go's way, so that it runs while nothing else of the host does.
wg-multihome: statically-linked-binary [usr/bin/wg-multihome-demo]
wg-multihome: statically-linked-binary [usr/sbin/wg-multihome]
`

// documents are read by people.
func (r release) documents(string) ([]file, error) {
	changes, err := os.ReadFile(".github/CHANGELOG.md")
	if err != nil {
		return nil, err
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		return nil, err
	}
	example, err := example()
	if err != nil {
		return nil, err
	}
	changelog := fmt.Sprintf(`wg-multihome (%s) unstable; urgency=medium

  * What users notice is in CHANGELOG.md.gz, beside this file.

 -- %s  %s
`, r.version, r.maintainer, r.time.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	return []file{
		{path: docs + "changelog.gz", mode: 0o644, data: zipped([]byte(changelog))},
		{path: docs + "CHANGELOG.md.gz", mode: 0o644, data: zipped(changes)},
		{path: docs + "README.md.gz", mode: 0o644, data: zipped(readme)},
		{path: "/usr/share/lintian/overrides/wg-multihome", mode: 0o644, data: []byte(overrides)},
		{path: docs + "examples/wg-multihome.toml", mode: 0o644, data: []byte(example)},
	}, nil
}

// example is a configuration with all keys, of which none counts: the block of TOML
// in the topic configuration, line by line as comments.
func example() (string, error) {
	const topic = "cmd/wg-multihome/doc/configuration.md"
	text, err := os.ReadFile(topic)
	if err != nil {
		return "", err
	}
	_, block, found := strings.Cut(string(text), "\n```toml wan\n")
	block, _, ends := strings.Cut(block, "\n```\n")
	if !found || !ends {
		return "", fmt.Errorf("%s has no block of TOML", topic)
	}
	out := "# All keys of /etc/wg-multihome.toml: `wg-multihome help configuration` says what\n# each does. None is needed for source rules alone.\n\n"
	for _, line := range strings.Split(block, "\n") {
		if line != "" {
			line = "#" + line
		}
		out += line + "\n"
	}
	return out, nil
}

func zipped(data []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is a valid one
	_, _ = w.Write(data)                                  // a buffer takes all
	_ = w.Close()
	return b.Bytes()
}
