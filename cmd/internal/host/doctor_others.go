package host

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"wg-multihome/cmd/internal/doctor"
	"wg-multihome/cmd/internal/systemd"
	"wg-multihome/fwmark/regular"
)

// Where the configuration of others lies, as patterns of filepath.Match.
var othersFiles = []string{
	"/etc/systemd/networkd.conf", "/usr/lib/systemd/networkd.conf",
	"/etc/systemd/networkd.conf.d/*.conf", "/run/systemd/networkd.conf.d/*.conf", "/usr/lib/systemd/networkd.conf.d/*.conf",
	"/etc/NetworkManager/NetworkManager.conf", "/etc/NetworkManager/conf.d/*.conf", "/run/NetworkManager/conf.d/*.conf", "/usr/lib/NetworkManager/conf.d/*.conf",
	"/etc/firewalld/firewalld.conf", "/etc/dhcp/dhclient-exit-hooks.d/*",
}

// unitFolders are where units lie, and unitLinks what enables them.
var (
	unitFolders = []string{systemd.AdminUnits, systemd.RunUnits, systemd.PackageUnits}
	unitLinks   = []string{systemd.AdminUnits + "/*.wants/*", systemd.PackageUnits + "/*.wants/*"}
)

// maxOther bounds what is read of one of them, in bytes.
const maxOther = 1 << 20

// readOthers reads what others have for their configuration, and units.
func readOthers(f *doctor.Facts) error {
	f.Texts, f.Links = map[string]string{}, map[string]bool{}
	f.Systemd = systemd.Runs()
	patterns := slices.Clone(othersFiles)
	units := []string{systemd.Guards, systemd.Watch}
	for _, p := range f.Decision.Pins {
		for _, cgroup := range p.Cgroups {
			units = append(units, filepath.Base(cgroup))
		}
	}
	for _, folder := range unitFolders {
		for _, unit := range units {
			patterns = append(patterns, filepath.Join(folder, unit), filepath.Join(folder, unit+".d", "*.conf"))
		}
	}
	var errs []error
	for _, pattern := range patterns {
		names, _ := filepath.Glob(pattern) // a name with a meaning of its own finds nothing
		for _, name := range names {
			text, err := regular.Read(name, maxOther)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			errs = append(errs, err)
			f.Texts[name] = string(text)
		}
	}
	for _, pattern := range unitLinks {
		names, _ := filepath.Glob(pattern)
		for _, name := range names {
			f.Links[name] = true
		}
	}
	return errors.Join(errs...)
}
