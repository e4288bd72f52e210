package main

import (
	"embed"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
)

// scripts are what dpkg runs.
//
//go:embed scripts
var scripts embed.FS

const description = `packets of hosts with several uplinks on the right one, or none
Keeps each packet of a host with several uplinks on the uplink that it belongs
to, or refuses it: what is sent from an uplink's address, WireGuard tunnels,
systemd services and whatever carries an uplink's fwmark. It follows leases of
dhclient, dhcpcd, udhcpc, NetworkManager, networkd, ifupdown and ppp by rules,
routes and nftables, in an order in which no step opens a leak.

Run wg-multihome-demo to see it at work, without root.`

// deb writes a Debian package.
func (r release) deb(path, arch string, contents []file) error {
	staged, err := os.MkdirTemp("", "wg-multihome-deb")
	if err != nil {
		return err
	}
	defer os.RemoveAll(staged)
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "wg-multihome", Arch: arch, Platform: "linux", Version: r.version, VersionSchema: "none",
		Section: "net", Priority: "optional", Maintainer: r.maintainer, Description: description,
		MTime: r.time, DisableGlobbing: true,
	})
	info.Deb.Compression = "gzip" // xz saves a tenth, and takes ten times as long
	info.Suggests = []string{"bash-completion", "wireguard-tools"}
	for name, field := range map[string]*string{
		"postinst": &info.Scripts.PostInstall, "prerm": &info.Scripts.PreRemove, "postrm": &info.Scripts.PostRemove,
	} {
		text, err := scripts.ReadFile("scripts/" + name)
		if err != nil {
			return err
		}
		*field = filepath.Join(staged, name)
		if err := os.WriteFile(*field, text, 0o644); err != nil {
			return err
		}
	}
	for _, f := range contents {
		c, err := r.content(staged, f)
		if err != nil {
			return err
		}
		info.Contents = append(info.Contents, c)
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(deb.Default.Package(info, out), out.Close())
}

// content is a file as nfpm has it: it reads files, and takes no bytes. What lies
// below /etc is a conffile: dpkg asks before it replaces what an administrator has
// changed.
func (r release) content(staged string, f file) (*files.Content, error) {
	c := &files.Content{Destination: f.path, FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: f.mode, MTime: r.time}}
	if f.target != "" {
		c.Type, c.Source, c.FileInfo.Mode = files.TypeSymlink, f.target, fs.ModeSymlink|0o777
		return c, nil
	}
	if strings.HasPrefix(f.path, "/etc/") {
		c.Type = files.TypeConfig
	}
	c.Source = filepath.Join(staged, "files", f.path)
	return c, errors.Join(os.MkdirAll(filepath.Dir(c.Source), 0o755), os.WriteFile(c.Source, f.data, 0o644))
}
