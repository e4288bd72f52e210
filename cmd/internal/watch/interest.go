package watch

import (
	"path/filepath"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/events"
	"wg-multihome/fwmark"
	"wg-multihome/nft/cgroup"
)

// Interest is what matters by a decision, but for files.
func Interest(d decide.Decision) events.Interest {
	i := events.Interest{Tables: d.RouteTables()}
	for _, u := range d.Uplinks {
		for _, f := range fwmark.Families {
			if u.Up && u.Address[f].IsValid() && !u.Gateways[f].IsValid() {
				i.Gateways = true
			}
		}
	}
	return i
}

// Where wg-quick has its files, and userspace devices their sockets.
var wireGuardFolders = []string{"/etc/wireguard", "/var/run/wireguard"}

// Places are the files and cgroups that matter by a decision. mount is that of
// cgroup2, "" where there is none.
func Places(d decide.Decision, files []string, folders []string, mount string) []events.Place {
	var places []events.Place
	for _, path := range files {
		places = append(places, events.Place{Path: path})
	}
	for _, path := range append(wireGuardFolders[:len(wireGuardFolders):len(wireGuardFolders)], folders...) {
		places = append(places, events.Place{Path: path, Entries: true})
	}
	if mount == "" {
		return places
	}
	for _, p := range d.Pins { // also what the configuration cannot say while it has an error
		for _, path := range p.Cgroups {
			places = append(places, events.Place{Path: filepath.Join(mount, path), Cgroup: true})
		}
	}
	places = append(places, events.Place{Path: filepath.Join(mount, cgroup.RunsSlice), Entries: true, Cgroup: true})
	for _, run := range d.Cgroups.Runs {
		places = append(places, events.Place{Path: filepath.Join(mount, d.Cgroups.Names[run.Cgroup.ID]), Entries: true, Cgroup: true})
	}
	return places
}
