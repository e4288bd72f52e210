package doctor

import (
	"bufio"
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// Program is one of others whose version matters.
type Program string

// The programs, by the names of their processes.
const (
	Manager Program = "NetworkManager"
	Dhcpcd  Program = "dhcpcd"
)

// packages are what distributions have programs in.
var packages = map[string]Program{
	"network-manager": Manager, "networkmanager": Manager,
	"dhcpcd-base": Dhcpcd, "dhcpcd5": Dhcpcd, "dhcpcd": Dhcpcd,
}

// Versions returns the versions of programs by the lists of installed packages: dpkg's
// status file, and apk's.
func Versions(dpkg, apk []byte) map[Program]string {
	versions := map[Program]string{}
	read := func(text []byte, name, version string, counts func(stanza map[string]string) bool) {
		for stanza := range stanzas(text, name, version, "Status") {
			if program, is := packages[stanza[name]]; is && counts(stanza) {
				versions[program] = upstream(stanza[version])
			}
		}
	}
	read(apk, "P", "V", func(map[string]string) bool { return true })
	read(dpkg, "Package", "Version", func(s map[string]string) bool { return strings.HasSuffix(s["Status"], " installed") })
	return versions
}

// stanzas reads some fields of each paragraph of `FIELD: VALUE` lines; apk has no blank
// behind the colon.
func stanzas(text []byte, fields ...string) func(yield func(map[string]string) bool) {
	return func(yield func(map[string]string) bool) {
		stanza := map[string]string{}
		lines := bufio.NewScanner(bytes.NewReader(text))
		lines.Buffer(nil, len(text)+1)
		for lines.Scan() {
			if len(lines.Bytes()) == 0 {
				if !yield(stanza) {
					return
				}
				stanza = map[string]string{}
				continue
			}
			if field, value, is := strings.Cut(lines.Text(), ":"); is && slices.Contains(fields, field) {
				stanza[field] = strings.TrimSpace(value)
			}
		}
		if len(stanza) > 0 {
			yield(stanza)
		}
	}
}

// upstream is a package's version without what the distribution has put around it:
// its epoch and its revision.
func upstream(version string) string {
	if _, rest, is := strings.Cut(version, ":"); is {
		version = rest
	}
	if i := strings.IndexAny(version, "-+~"); i >= 0 {
		version = version[:i]
	}
	return version
}

// before reports whether a version is older. What is no number in it, and what is not
// there, is 0.
func before(version string, than ...int) bool {
	have := make([]int, len(than))
	for i, part := range strings.SplitN(version, ".", len(than)) {
		have[i], _ = strconv.Atoi(part)
	}
	return slices.Compare(have, than) < 0
}
