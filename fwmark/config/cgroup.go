package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Bounds of a cgroup's path below the mount: a name's and a path's length in
// bytes (NAME_MAX; PATH_MAX less the closing NUL), and the levels that
// nftables can match (NFTA_SOCKET_LEVEL, up to 255).
const (
	maxCgroupName  = 255
	maxCgroupPath  = 4095
	maxCgroupLevel = 255
)

// CgroupPath returns the path of what a person calls by a word, as the
// configuration has it: the name of a unit, or a path below the cgroup2 mount.
func CgroupPath(word string) (string, error) { return cgroupPath(word) }

// cgroupPath returns the path, relative to the cgroup2 mount, of what the
// configuration calls by a word: a full path, which holds a slash, or the name
// of a unit of systemd's. A unit's place follows from its name, unless it has a
// `Slice=` of its own (systemd.slice(5), systemd.resource-control(5)).
func cgroupPath(word string) (string, error) {
	path := strings.TrimPrefix(word, "/")
	if !strings.Contains(word, "/") {
		var err error
		if path, err = unitPath(word); err != nil {
			return "", err
		}
	}
	return path, checkCgroup(path)
}

// units are the suffixes of what systemd makes cgroups for.
var units = []string{".service", ".socket", ".scope", ".slice", ".mount", ".swap"}

// noteCgroup notes a name that no unit has. systemctl adds .service to such a one, so a
// person may expect that here.
func (c *Config) noteCgroup(origin, word, path string) {
	if strings.Contains(word, "/") || slices.ContainsFunc(units, func(suffix string) bool { return strings.HasSuffix(word, suffix) }) {
		return
	}
	c.Notes = append(c.Notes, fmt.Sprintf("%s: %s is taken for cgroup %s, which is no unit's: for a service write %s", origin, quote(word), quote(path), quote(word+".service")))
}

func checkCgroup(path string) error {
	names := strings.Split(path, "/")
	switch {
	case path == "":
		return errors.New("is the root of all cgroups, or nothing")
	case len(path) > maxCgroupPath:
		return fmt.Errorf("is no path of a cgroup: longer than %d bytes", maxCgroupPath)
	case len(names) > maxCgroupLevel:
		return fmt.Errorf("is no path of a cgroup that nftables can match: deeper than %d levels", maxCgroupLevel)
	}
	for _, name := range names {
		switch {
		case name == "":
			return errors.New("is no path of a cgroup: a name in it is empty")
		case name == "." || name == "..":
			return fmt.Errorf("is no path of a cgroup: it holds %q", name)
		case len(name) > maxCgroupName:
			return fmt.Errorf("is no path of a cgroup: a name in it is longer than %d bytes", maxCgroupName)
		case strings.ContainsFunc(name, unicode.IsControl):
			return errors.New("is no path of a cgroup: it holds a control character")
		}
	}
	return nil
}

// unitPath returns where systemd puts a unit that says nothing of it: a slice
// below those that its name begins with, an instance into a slice of its
// template's, and everything else into system.slice.
func unitPath(unit string) (string, error) {
	if prefix, ok := strings.CutSuffix(unit, ".slice"); ok {
		return slicePath(prefix)
	}
	template, instance, ok := strings.Cut(unit, "@")
	if suffix := unitSuffix(unit); ok && template != "" && suffix != "" {
		if instance == suffix {
			return "", fmt.Errorf("is a template and has no cgroup: name an instance, as %s@NAME%s", template, suffix)
		}
		slice, err := slicePath("system-" + escapeUnit(template))
		return slice + "/" + escapeCgroup(unit), err
	}
	if unit == "" || unit == "." || unit == ".." {
		return unit, nil // refused as a path
	}
	return "system.slice/" + escapeCgroup(unit), nil
}

// unitSuffix returns the suffix of a unit that can be a template and has
// processes; "" of all others.
func unitSuffix(unit string) string {
	for _, suffix := range []string{".service", ".socket"} {
		if strings.HasSuffix(unit, suffix) {
			return suffix
		}
	}
	return ""
}

// slicePath returns the path of PREFIX.slice: each dash of its name is a step
// down. `-.slice` is the root.
func slicePath(prefix string) (string, error) {
	if prefix == "-" {
		return "", nil
	}
	if prefix == "" || strings.Contains("-"+prefix+"-", "--") || strings.Contains(prefix, "@") {
		return "", errors.New("is no slice of systemd's")
	}
	var names []string
	for i := range len(prefix) {
		if prefix[i] == '-' {
			names = append(names, escapeCgroup(prefix[:i]+".slice"))
		}
	}
	return strings.Join(append(names, escapeCgroup(prefix+".slice")), "/"), nil
}

// escapeUnit makes a text fit for a part of a unit's name, "STRING ESCAPING"
// in systemd.unit(5).
func escapeUnit(s string) string {
	const valid = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:_."
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; strings.IndexByte(valid, c) >= 0 && (i > 0 || c != '.') {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

// escapeCgroup returns the name of a unit's cgroup: systemd puts `_` in front
// of what could be mistaken for an attribute file of the kernel's, as the name
// of io.service.
func escapeCgroup(unit string) string {
	if strings.HasPrefix(unit, "_") || strings.HasPrefix(unit, ".") || strings.HasPrefix(unit, "cgroup.") ||
		unit == "notify_on_release" || unit == "release_agent" || unit == "tasks" {
		return "_" + unit
	}
	before, _, dotted := strings.Cut(unit, ".")
	switch before {
	case "cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids",
		"bpf-firewall", "bpf-devices", "bpf-foreign", "bpf-socket-bind", "bpf-restrict-network-interfaces":
		if dotted {
			return "_" + unit
		}
	}
	return unit
}
