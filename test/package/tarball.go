package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path"
	"slices"
	"strings"
)

// tarball writes what is for hosts of other distributions, as it lies below /usr: the
// static programs, which `wg-multihome install` wires to what is there, and what is to
// be read.
func (r release) tarball(name, _ string, files []file) error {
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	w := tar.NewWriter(zip)
	for _, f := range files {
		below, found := strings.CutPrefix(f.path, "/usr/")
		folder, _, _ := strings.Cut(below, "/")
		// What install writes fits the host, and not Debian.
		if found && slices.Contains([]string{"bin", "sbin", "share"}, folder) && !strings.Contains(below, "/lintian/") {
			if err := r.entry(w, path.Join("wg-multihome-"+r.version, below), f); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		return err
	}
	return os.WriteFile(name, b.Bytes(), 0o644)
}

func (r release) entry(w *tar.Writer, name string, f file) error {
	err := w.WriteHeader(&tar.Header{Name: name, Mode: int64(f.mode), Size: int64(len(f.data)), ModTime: r.time, Format: tar.FormatGNU})
	if err != nil {
		return err
	}
	_, err = w.Write(f.data)
	return err
}
