package e2e

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

const dhclientHook = "/etc/dhcp/dhclient-exit-hooks.d/zz-wg-multihome"

// mh runs the program as it is installed.
func (d docLab) mh(t *testing.T, code int, args string) lab.Result {
	t.Helper()
	r := d.sh("wg-multihome " + args)
	wantCode(t, r, code)
	return r
}

// TestInstallAndUninstall goes through the life of an installation on a host without a
// running systemd: what an administrator changed stays, and what is ours goes.
func TestInstallAndUninstall(t *testing.T) {
	d := docHost(t)
	d.Write("/etc/wg-multihome.toml", "[uplink.wan2]\nfwmark = 0x2005\n", 0o644)
	before := d.State()
	etc := func() []string { return strings.Fields(d.Run("find", "/etc")) }
	untouched := etc()
	dry := d.mh(t, 0, "install --dry-run").Stdout
	wantPart(t, "dry run", dry, "+ "+dhclientHook+" (dhclient: ")
	wantEqual(t, "what a dry run made", strings.Join(without(etc(), untouched), " "), "")

	wantEqual(t, "install", d.mh(t, 0, "install").Stdout, dry)
	wantPart(t, "units", d.Run("ls", "-l", "/etc/systemd/system/multi-user.target.wants/"), "wg-multihome.service")
	again := d.mh(t, 0, "install")
	wantPart(t, "a second run", again.Stderr, "nothing to do")
	for _, line := range strings.Split(strings.TrimSpace(again.Stdout), "\n") {
		if !strings.HasPrefix(line, "= ") {
			t.Errorf("a second run: %s", line)
		}
	}

	// Another place of the configuration is written into each file.
	d.Script("cp /etc/wg-multihome.toml /etc/other.toml")
	wantPart(t, "another configuration", d.mh(t, 0, "install --config /etc/other.toml --state-dir /run/elsewhere").Stdout, "+ "+dhclientHook+" (another version)")
	wantPart(t, "the hook", d.Read(dhclientHook), d.Binary+" --config /etc/other.toml --state-dir /run/elsewhere exit-hook --client dhclient")
	d.mh(t, 2, "install --config /etc/absent.toml")
	d.Script("rm /etc/other.toml")
	d.mh(t, 0, "install")

	d.Script("echo '# mine' >>" + dhclientHook)
	for _, command := range []string{"install", "uninstall --dry-run"} {
		wantPart(t, command, d.mh(t, 0, command).Stdout, "! "+dhclientHook+" (an administrator's")
		wantPart(t, "the hook after "+command, d.Read(dhclientHook), "# mine")
	}
	d.MustMH("sync")
	wantPart(t, "rules", d.Rules("-4"), "fwmark 0x2005 unreachable")
	r := d.mh(t, 0, "uninstall")
	wantPart(t, "uninstall", r.Stdout, "! "+dhclientHook)
	wantPart(t, "uninstall", r.Stdout, "- /etc/systemd/system/wg-multihome.service\n")
	wantEqual(t, "state after uninstall", d.State(), before)
	wantEqual(t, "what is left", strings.Join(without(etc(), untouched), " "), dhclientHook)
	wantPart(t, "what down says", d.mh(t, 0, "down").Stderr, "this will come back, by: "+dhclientHook)

	wantPart(t, "--force", d.mh(t, 0, "install --force").Stdout, "+ "+dhclientHook+" (--force: it was an administrator's)")
	wantNone(t, "the hook after --force", d.Read(dhclientHook), "# mine")
	d.MustMH("sync")
	wantPart(t, "--purge", d.mh(t, 0, "uninstall --purge").Stdout, "- /run/wg-multihome\n- /etc/wg-multihome.toml\n")
	wantEqual(t, "state after --purge", d.State(), before)
	wantEqual(t, "what is new in /etc", strings.Join(without(etc(), untouched), " "), "")
	wantEqual(t, "what has gone from /etc", strings.Join(without(untouched, etc()), " "), "/etc/wg-multihome.toml")
	d.Run("test", "!", "-e", "/run/wg-multihome")
	wantEqual(t, "a third time", d.mh(t, 0, "uninstall").Stdout, "")
}

// without are the words of some that are not among others.
func without(some, others []string) []string {
	return slices.DeleteFunc(slices.Clone(some), func(w string) bool { return slices.Contains(others, w) })
}

// TestInstallBelowARoot touches nothing that lives.
func TestInstallBelowARoot(t *testing.T) {
	d := docHost(t)
	d.Write("/etc/wg-multihome.toml", "[uplink.wan2]\nfwmark = 0x2005\n", 0o644)
	d.MustMH("sync")
	d.Write("/run/fake", "#!/bin/sh\necho called >>/run/systemctl\n", 0o755)
	d.Script("mount --bind /run/fake /usr/bin/systemctl")
	d.Script("mkdir -p /run/root/usr/sbin; : >/run/root/usr/sbin/pppd; ln -s /etc /run/root/etc")
	before, etc := d.State(), d.Run("find", "/etc")
	d.Script("rm /run/root/etc; mkdir /run/root/etc /run/root/etc/private; ln -s /etc/private /run/root/etc/ppp")
	for _, packaged := range []string{"", " --package"} {
		said := d.mh(t, 0, "install --root /run/root"+packaged).Stdout
		wantPart(t, "install", said, "+ /etc/ppp/ip-up.d/zz-wg-multihome (")
		if packaged == "" {
			wantNone(t, "install", said, "dhclient")
		} else {
			wantPart(t, "a package's hook", d.Read("/run/root"+dhclientHook), "/usr/sbin/wg-multihome exit-hook --client dhclient")
		}
		d.Run("test", "-x", "/run/root/etc/private/ip-up.d/zz-wg-multihome")
		wantPart(t, "uninstall", d.mh(t, 0, "uninstall --purge --root /run/root").Stdout, "- /etc/ppp/ip-up.d/zz-wg-multihome\n")
		wantEqual(t, "files below the root", d.Run("find", "/run/root", "-type", "f"), "/run/root/usr/sbin/pppd\n")
	}
	wantEqual(t, "the host's state", d.State(), before)
	wantEqual(t, "the host's files", d.Run("find", "/etc"), etc)
	d.Run("test", "!", "-e", "/run/systemctl")
	for _, args := range []string{"install --package", "install --root /run/absent", "uninstall --root /run/absent", "install x", "install --root /etc/passwd"} {
		oneLine(t, d.sh("wg-multihome "+args))
	}
}

// TestInstalledHooksWork: ifup takes a host from nothing to a pinned mark by what
// `install` has written, and ifdown back, without another call of ours.
func TestInstalledHooksWork(t *testing.T) {
	if _, err := exec.LookPath("ifup"); err != nil {
		t.Skipf("no ifupdown here: %v", err)
	}
	d := docHost(t)
	d.install(t)
	d.Script("ip addr flush dev wan2; ip -6 addr flush dev wan2 scope global; ip link set wan2 down")
	d.Interfaces("iface wan2 inet static\n\taddress 198.51.100.10/24\n\tgateway 198.51.100.1\n\tmetric 2\n\tmultihomed-fwmark 0x2005\n")
	d.Run("ifup", "wan2")
	d.WantSeen(lab.Far4, "", mark, two4)
	noDrift(t, d.Lab)
	d.Run("ifdown", "wan2")
	d.WantRefused(lab.Far4, "", mark)
	noDrift(t, d.Lab)
}

// TestInstallRefusesAProgramOfOthers: hooks would run as root what another one may put
// in its place.
func TestInstallRefusesAProgramOfOthers(t *testing.T) {
	d := docHost(t)
	for how, prepare := range map[string]string{
		"user 65534 may change /run/own/wg-multihome,": "chown 65534 /run/own/wg-multihome",
		"user 65534 may change /run/own,":              "chown 65534 /run/own",
		"anybody may change /run/own,":                 "chmod 777 /run/own",
		"group 65534 may change /run/own,":             "chgrp 65534 /run/own; chmod 775 /run/own",
	} {
		d.Script(`rm -rf /run/own; mkdir -m 755 /run/own; cp ` + d.Binary + ` /run/own/wg-multihome; ` + prepare)
		r := d.Try(nil, "/run/own/wg-multihome", "install")
		wantCode(t, r, 2)
		wantPart(t, "install", r.Stderr, how)
		wantEqual(t, "what was written", r.Stdout, "")
	}
	d.Script("chown 0:0 /run/own /run/own/wg-multihome; chmod 1777 /run/own")
	wantPart(t, "install out of a folder with the sticky bit", d.Run("/run/own/wg-multihome", "install"), "+ "+dhclientHook)
}

// TestUninstallLeavesAPackageToDpkg: the files are the package's.
func TestUninstallLeavesAPackageToDpkg(t *testing.T) {
	d := docHost(t)
	d.mh(t, 0, "install")
	d.Script("mkdir -p /var/lib/dpkg/info; echo /usr/sbin/wg-multihome >/var/lib/dpkg/info/wg-multihome.list")
	for _, args := range []string{"uninstall", "uninstall --dry-run", "uninstall --force --purge"} {
		r := d.mh(t, 2, args)
		wantPart(t, args, r.Stderr, "apt remove wg-multihome")
		wantEqual(t, args, r.Stdout, "")
	}
	wantPart(t, "the hook", d.Read(dhclientHook), "exit-hook --client dhclient")
	d.Script("rm /var/lib/dpkg/info/wg-multihome.list")
	wantPart(t, "uninstall", d.mh(t, 0, "uninstall").Stdout, "- "+dhclientHook)
}
