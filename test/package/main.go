// Package writes the program's Debian packages and tarballs.
//
//	go run ./test/package [--arch amd64,arm64,armhf] [--version V] [--maintainer WHO] DIR
//
// Two builds of one commit by one version of Go give the same bytes: times are the
// commit's, or those of SOURCE_DATE_EPOCH. It takes Go and, unless --version and
// SOURCE_DATE_EPOCH are given, git; it takes no root.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// architectures are Debian's names, and what builds for them.
var architectures = map[string][]string{
	"amd64": {"GOARCH=amd64", "GOAMD64=v1"},
	"arm64": {"GOARCH=arm64", "GOARM64=v8.0"},
	"armhf": {"GOARCH=arm", "GOARM=7"},
}

func main() {
	arch := flag.String("arch", "amd64,arm64,armhf", "Debian's names of the `ARCHITECTURES`")
	version := flag.String("version", "", "Debian's `VERSION`; else it is made of the commit")
	maintainer := flag.String("maintainer", "The wg-multihome authors <wg-multihome@users.noreply.github.com>", "`WHO` answers for the package")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: package [FLAGS] DIR, from the top of the source tree")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := write(flag.Arg(0), strings.Split(*arch, ","), *version, *maintainer); err != nil {
		fmt.Fprintln(os.Stderr, "package:", err)
		os.Exit(1)
	}
}

// write writes what is to be written into a folder, and prints the paths.
func write(dir string, archs []string, version, maintainer string) error {
	for _, arch := range archs {
		if architectures[arch] == nil {
			return fmt.Errorf("--arch %q: there are amd64, arm64 and armhf", arch)
		}
	}
	if _, err := os.Stat("cmd/wg-multihome/main.go"); err != nil {
		return errors.New("the working folder is not the top of the source tree")
	}
	r, err := thisRelease(version, os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	r.maintainer = maintainer
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "wg-multihome-package")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	common, err := r.common(work)
	if err != nil {
		return err
	}
	for _, arch := range archs {
		programs, err := r.programs(filepath.Join(work, arch), architectures[arch])
		if err != nil {
			return err
		}
		files := append(programs, common...)
		for _, form := range []struct {
			name  string
			write func(path, arch string, files []file) error
		}{
			{fmt.Sprintf("wg-multihome_%s_%s.deb", r.version, arch), r.deb},
			{fmt.Sprintf("wg-multihome_%s_linux_%s.tar.gz", r.version, arch), r.tarball},
		} {
			path := filepath.Join(dir, form.name)
			if err := form.write(path, arch, files); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			fmt.Println(path)
		}
	}
	return nil
}
