package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// packages returns two versions of the package for amd64. WG_MULTIHOME_PACKAGES names
// a folder that has them; else they are built.
func packages(t *testing.T) (one, two string) {
	t.Helper()
	dir := os.Getenv("WG_MULTIHOME_PACKAGES")
	if dir == "" {
		dir = t.TempDir()
		for _, version := range []string{"1", "2"} {
			build := exec.Command("go", "run", "./test/package", "--arch", "amd64", "--version", version, dir)
			build.Dir = "../.."
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("go run ./test/package: %v\n%s", err, out)
			}
		}
	}
	path := func(version string) string {
		return filepath.Join(dir, "wg-multihome_"+version+"_amd64.deb")
	}
	return path("1"), path("2")
}

// conffiles are what stays when the package is removed, and not purged.
const conffiles = `/etc/NetworkManager/dispatcher.d/90-wg-multihome
/etc/dhcp/dhclient-exit-hooks.d/zz-wg-multihome
/etc/network/if-post-down.d/zz-wg-multihome
/etc/network/if-up.d/zz-wg-multihome
/etc/ppp/ip-down.d/zz-wg-multihome
/etc/ppp/ip-up.d/zz-wg-multihome
/etc/ppp/ipv6-down.d/zz-wg-multihome
/etc/ppp/ipv6-up.d/zz-wg-multihome
`

// ourFiles lists files and links of a tree that have the program's name.
const ourFiles = `find /etc /usr /run /var/lib ! -path '/var/lib/dpkg/*' \( -type f -o -type l \) -path '*wg-multihome*' | sort`

// TestPackage goes through the life of the package in a fresh Debian without a running
// systemd, as an image's builder does: no rule of the host is touched, what an
// administrator has changed stays, and what is purged leaves nothing.
func TestPackage(t *testing.T) {
	one, two := packages(t)
	for _, release := range []string{"trixie", "bookworm"} {
		t.Run(release, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			tree := freshTree(t, l, release)
			run := func(lines string) string {
				t.Helper()
				return tree.run(t, l.Namespace.Command, lines)
			}
			l.Script(fmt.Sprintf("cp %q %q %s/root", one, two, tree.root))
			const files = "find / -xdev ! -path '/proc/*' ! -path '/root/*' ! -path '/var/lib/dpkg/*' ! -path '/var/log/*' | sort"
			before, rules := run(files), l.State()

			// The tree's dpkg leaves papers out.
			const install = "dpkg --path-include='/usr/share/doc/*' --path-include='/usr/share/man/*' -i "
			run(install + "/root/wg-multihome_1_amd64.deb")
			wantPart(t, "the version", run("wg-multihome --version"), "1, ")
			wantEqual(t, "conffiles", run("cat /var/lib/dpkg/info/wg-multihome.conffiles"), conffiles)
			wantEqual(t, "what dpkg finds changed", run("dpkg --verify wg-multihome"), "")
			wantEqual(t, "units that are enabled", run("ls /etc/systemd/system/multi-user.target.wants | grep wg-multihome"), "wg-multihome-watch.service\nwg-multihome.service\n")
			wantPart(t, "the example", run("cat /usr/share/doc/wg-multihome/examples/wg-multihome.toml"), "\n#fwmark = 0x2005\n")
			run("sed 's/^#//' /usr/share/doc/wg-multihome/examples/wg-multihome.toml | sed 1,3d >/etc/wg-multihome.toml; wg-multihome plan | grep 'fwmark 0x2005 unreachable'")
			copyright := run("cat /usr/share/doc/wg-multihome/copyright")
			for _, part := range []string{"Copyright (c) 2026 The wg-multihome authors", "github.com/vishvananda/netlink v", "Go's standard library", "/usr/share/common-licenses/Apache-2.0"} {
				wantPart(t, "copyright", copyright, part)
			}
			wantEqual(t, "the host's state", l.State(), rules)

			run("rm /etc/systemd/system/multi-user.target.wants/wg-multihome-watch.service; echo '# mine' >>/etc/ppp/ip-up.d/zz-wg-multihome; " + install + "/root/wg-multihome_2_amd64.deb")
			wantPart(t, "the version", run("wg-multihome --version"), "2, ")
			wantPart(t, "what an administrator changed", run("cat /etc/ppp/ip-up.d/zz-wg-multihome"), "# mine")
			wantEqual(t, "units that are enabled", run("ls /etc/systemd/system/multi-user.target.wants | grep wg-multihome"), "wg-multihome.service\n")

			// The rules that a chroot sees are another host's.
			run("wg-multihome sync; dpkg -r wg-multihome")
			wantPart(t, "the host's rules", l.Rules("-4"), "fwmark 0x2005 unreachable proto 77")
			l.MustMH("down")
			left := strings.Join(without(strings.Fields(run(ourFiles)), strings.Fields(before)), "\n") + "\n"
			state := []string{"/etc/wg-multihome.toml", "/etc/systemd/system/multi-user.target.wants/", "/run/wg-multihome/", "/var/lib/systemd/"}
			wantEqual(t, "what remove leaves, but for state", notBegin(left, state...), conffiles)
			// They do nothing without the program.
			run("for hook in if-up.d if-post-down.d; do IFACE=up1 /etc/network/$hook/zz-wg-multihome; done; . /etc/dhcp/dhclient-exit-hooks.d/zz-wg-multihome")

			run("mkdir -p /var/lib/wg-multihome; : >/var/lib/wg-multihome/try.lock; dpkg -P wg-multihome")
			wantEqual(t, "what is new after purge", strings.Join(without(strings.Fields(run(files)), strings.Fields(before)), "\n"), "")
			wantEqual(t, "what has gone after purge", strings.Join(without(strings.Fields(before), strings.Fields(run(files))), "\n"), "")
		})
	}
}

// notBegin drops the lines that begin so.
func notBegin(text string, begins ...string) string {
	var kept strings.Builder
	for _, line := range strings.SplitAfter(text, "\n") {
		drop := false
		for _, b := range begins {
			drop = drop || strings.HasPrefix(line, b)
		}
		if !drop {
			kept.WriteString(line)
		}
	}
	return kept.String()
}
