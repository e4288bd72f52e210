package install

import (
	"io/fs"
	"path"

	"wg-multihome/cmd/internal/systemd"
)

// An Entry is one file, or one symbolic link, that `install` writes.
type Entry struct {
	Client Client
	// Path is where it lies, and Packaged where a package has it: administrators'
	// units lie in /etc, those of packages in /usr/lib.
	Path, Packaged string
	Mode           fs.FileMode // of a file
	Target         string      // of a symbolic link, else ""
	source         string      // its name in files, "" for a link
	unit           bool        // is enabled and started
	stays          bool        // and runs on, so that another version has to be started anew
	ownFolder      bool        // the folder goes with its last file
}

const (
	hookMode    fs.FileMode = 0o755 // is executed
	snippetMode fs.FileMode = 0o644 // is read

	// UdhcpcScript is what udhcpc has to be told of by its option -s: it has no folder
	// for hooks.
	UdhcpcScript = "/usr/lib/wg-multihome/udhcpc"
)

// Table has everything that is ever written. `down`, `uninstall` and whoever
// makes a package go by it, too.
func Table() []Entry {
	hook := func(c Client, p, source string) Entry {
		return Entry{Client: c, Path: p, Packaged: p, Mode: hookMode, source: source}
	}
	snippet := func(c Client, p, source string) Entry {
		return Entry{Client: c, Path: p, Packaged: p, Mode: snippetMode, source: source}
	}
	unit := func(c Client, name, source string) Entry {
		return Entry{Client: c, Path: path.Join(systemd.AdminUnits, name), Packaged: path.Join(systemd.PackageUnits, name), Mode: snippetMode, source: source}
	}
	script := hook(Udhcpc, UdhcpcScript, "udhcpc")
	script.ownFolder = true
	guards := unit(Systemd, systemd.Guards, systemd.Guards)
	guards.unit = true
	watch := unit(Systemd, systemd.Watch, systemd.Watch)
	watch.unit, watch.stays = true, true
	quick := unit(WgQuick, "wg-quick@.service.d/50-wg-multihome.conf", "wg-quick")
	quick.ownFolder = true
	return []Entry{
		snippet(Dhclient, "/etc/dhcp/dhclient-exit-hooks.d/zz-wg-multihome", "dhclient"),
		snippet(Dhcpcd, "/usr/lib/dhcpcd/dhcpcd-hooks/90-wg-multihome", "dhcpcd"),
		script,
		hook(NetworkManager, "/etc/NetworkManager/dispatcher.d/90-wg-multihome", "NetworkManager"),
		// NetworkManager waits for what lies there before it says that a connection is up.
		{Client: NetworkManager, Path: "/etc/NetworkManager/dispatcher.d/pre-up.d/90-wg-multihome", Packaged: "/etc/NetworkManager/dispatcher.d/pre-up.d/90-wg-multihome", Target: "../90-wg-multihome"},
		hook(Ifupdown, "/etc/network/if-up.d/zz-wg-multihome", "ifupdown"),
		hook(Ifupdown, "/etc/network/if-post-down.d/zz-wg-multihome", "ifupdown"),
		hook(PPP, "/etc/ppp/ip-up.d/zz-wg-multihome", "ppp"),
		hook(PPP, "/etc/ppp/ip-down.d/zz-wg-multihome", "ppp"),
		hook(PPP, "/etc/ppp/ipv6-up.d/zz-wg-multihome", "ppp"),
		hook(PPP, "/etc/ppp/ipv6-down.d/zz-wg-multihome", "ppp"),
		{
			Client: Networkd, Path: "/etc/systemd/networkd.conf.d/50-wg-multihome.conf", Packaged: "/usr/lib/systemd/networkd.conf.d/50-wg-multihome.conf",
			Mode: snippetMode, source: "networkd", ownFolder: true,
		},
		quick,
		guards,
		watch,
	}
}

// At returns the entry's path.
func (e Entry) At(packaged bool) string {
	if packaged {
		return e.Packaged
	}
	return e.Path
}

// Unit returns the name of the unit that is to be enabled and started, "" where
// the entry is none.
func (e Entry) Unit() string {
	if !e.unit {
		return ""
	}
	return path.Base(e.Path)
}

// Paths are where entries may lie, administrators' and packages'.
func Paths() []string {
	var all []string
	for _, e := range Table() {
		all = append(all, e.Path)
		if e.Packaged != e.Path {
			all = append(all, e.Packaged)
		}
	}
	return all
}
