package main

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed wg-multihome-demo.1
var demoPage []byte

// manPages are those of the program, which writes them, and of the demo.
func (r release) manPages(program string) ([]file, error) {
	dir, err := os.MkdirTemp("", "wg-multihome-man")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	write := exec.Command(program, "help", "--man", dir)
	write.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.time.Unix()))
	if _, err := output(write); err != nil {
		return nil, err
	}
	pages, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files := []file{page("wg-multihome-demo.1", demoPage)}
	for _, p := range pages {
		text, err := os.ReadFile(filepath.Join(dir, p.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, page(p.Name(), text))
	}
	return files, nil
}

// page is a manual page where man looks for it.
func page(name string, text []byte) file {
	section := strings.TrimPrefix(filepath.Ext(name), ".")
	return file{path: "/usr/share/man/man" + section + "/" + name + ".gz", mode: 0o644, data: zipped(text)}
}
