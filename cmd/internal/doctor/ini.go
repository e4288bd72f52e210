package doctor

import (
	"path"
	"slices"
	"strings"
)

// Folders of drop-ins, in the order in which they count: a file stands in front of
// those of its name in later ones.
var (
	networkdFolders = []string{"/etc/systemd/networkd.conf.d", "/run/systemd/networkd.conf.d", "/usr/lib/systemd/networkd.conf.d"}
	managerFolders  = []string{"/etc/NetworkManager/conf.d", "/run/NetworkManager/conf.d", "/usr/lib/NetworkManager/conf.d"}
)

// networkdKey returns what networkd.conf(5) says for a key, "" where nothing does.
func networkdKey(texts map[string]string, key string) string {
	main := []string{"/etc/systemd/networkd.conf"}
	if _, there := texts[main[0]]; !there {
		main[0] = "/usr/lib/systemd/networkd.conf"
	}
	value, _ := keyed(texts, append(main, dropIns(texts, networkdFolders)...), key)
	return value
}

// managerKey returns what NetworkManager.conf(5) says for a key, and in which file.
// What lies in /etc is read after the file itself, and all else before it.
func managerKey(texts map[string]string, key string) (value, file string) {
	var before, after []string
	for _, name := range dropIns(texts, managerFolders) {
		if strings.HasPrefix(name, managerFolders[0]+"/") {
			after = append(after, name)
		} else {
			before = append(before, name)
		}
	}
	return keyed(texts, slices.Concat(before, []string{"/etc/NetworkManager/NetworkManager.conf"}, after), key)
}

// dropIns returns the drop-ins that count, in the order of their names.
func dropIns(texts map[string]string, folders []string) (files []string) {
	taken := map[string]bool{}
	for _, folder := range folders {
		for _, name := range sorted(texts) {
			if path.Dir(name) == folder && !taken[path.Base(name)] {
				taken[path.Base(name)] = true
				files = append(files, name)
			}
		}
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(path.Base(a), path.Base(b)) })
	return files
}

// keyed returns the last value that ini files, in the order in which they are read,
// give a key, and the file that does; "": none.
func keyed(texts map[string]string, files []string, key string) (value, file string) {
	for _, name := range files {
		for _, line := range strings.Split(texts[name], "\n") {
			if k, v, is := strings.Cut(line, "="); is && strings.TrimSpace(k) == key {
				value, file = strings.TrimSpace(v), name
			}
		}
	}
	return value, file
}

func no(value string) bool {
	return slices.Contains([]string{"no", "false", "0", "off", "n", "f"}, strings.ToLower(value))
}

// sorted returns the paths of files in order.
func sorted(texts map[string]string) (names []string) {
	for name := range texts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
