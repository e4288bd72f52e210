package main

import (
	"bytes"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
)

// licenceNames are what modules call the file.
var licenceNames = []string{"LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE", "COPYING", "COPYING.md"}

// apache is a licence that Debian has a copy of, and wants no other one of. Some files
// have it beside others.
var apache = regexp.MustCompile(`(?s)[ \t]*Apache License\s+Version 2\.0, January 2004\s.*?accepting\s+any\s+such\s+warranty\s+or\s+additional\s+liability\.` +
	`(\s+END OF TERMS AND CONDITIONS)?(\s+APPENDIX: .*?limitations under the License\.)?`)

// copyright is Debian's file: whose the programs are, and what is linked into them.
func copyright(programs []file) (string, error) {
	own, err := os.ReadFile("LICENSE")
	if err != nil {
		return "", err
	}
	linked, err := linkedInto(programs)
	if err != nil {
		return "", err
	}
	byText := map[string][]string{} // modules, by what their licence says
	for path, version := range linked {
		text, err := licenceOf(path)
		if err != nil {
			return "", fmt.Errorf("licence of %s: %w", path, err)
		}
		byText[text] = append(byText[text], path+" "+version)
	}
	// The standard library has the licence of the Go project's other modules.
	goes, err := licenceOf("golang.org/x/sys")
	if err != nil {
		return "", err
	}
	byText[goes] = append(byText[goes], "Go's standard library")

	var blocks []string
	for text, modules := range byText {
		sort.Strings(modules)
		blocks = append(blocks, strings.Join(modules, "\n")+"\n\n"+indented(text))
	}
	sort.Strings(blocks)
	const rule = "\n----------------------------------------------------------------------\n\n"
	return "wg-multihome and wg-multihome-demo\n\n" + indented(string(own)) + rule +
		"Into them these Go modules are linked, each under the licence below it.\n" + rule +
		strings.Join(blocks, rule), nil
}

// linkedInto are the modules in programs, but for their own, with their versions.
func linkedInto(programs []file) (map[string]string, error) {
	linked := map[string]string{}
	for _, p := range programs {
		info, err := buildinfo.Read(bytes.NewReader(p.data))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.path, err)
		}
		for _, m := range info.Deps {
			if m.Replace != nil {
				return nil, fmt.Errorf("%s: %s is replaced, and its licence with it", p.path, m.Path)
			}
			linked[m.Path] = m.Version
		}
	}
	return linked, nil
}

// licenceOf reads a module's licence where the module lies, and its notice.
func licenceOf(module string) (string, error) {
	dir, err := output(exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module))
	if err != nil {
		return "", err
	}
	for _, name := range licenceNames {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		said := apache.ReplaceAllString(string(text), "Apache License, Version 2.0: /usr/share/common-licenses/Apache-2.0\n")
		notice, err := os.ReadFile(filepath.Join(dir, "NOTICE"))
		if err == nil {
			said += "\n" + string(notice)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		return said, nil
	}
	return "", fmt.Errorf("none of %s is in %s", strings.Join(licenceNames, ", "), dir)
}

func indented(text string) string {
	var b strings.Builder
	for _, line := range strings.Split(strings.TrimSpace(strings.ReplaceAll(text, "\r", "")), "\n") {
		b.WriteString(strings.TrimRight("    "+line, " \t") + "\n")
	}
	return b.String()
}
