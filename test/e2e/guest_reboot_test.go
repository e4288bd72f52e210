//go:build guest

package e2e

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"testing"

	"wg-multihome/test/lab"
)

// bootsFile has a line for each boot that TestRebootWithinATry has asked for.
const bootsFile = "/var/lib/wgmh-boots"

// TestRebootWithinATry boots the machine anew before a try is confirmed, at once, as when
// its power fails, so that what is not on the disk is gone. It starts anew with the boot.
// What was in force before the try is in force then.
//
// It takes a machine that keeps its files: test/vm/run --disk.
func TestRebootWithinATry(t *testing.T) {
	boots, err := os.ReadFile(bootsFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	l := here(t)
	switch string(boots) {
	case "":
		durable(t, "/etc/wg-multihome.toml", pinnedHere)
		hereMH(t, l, "install")
		tryAndReboot(t, l, "0x2007", "at once\n", func() { fatal(t, os.WriteFile("/proc/sysrq-trigger", []byte("b"), 0)) })
	case "at once\n":
		wantTryUndone(t, l, "0x2007")
		systemctl(t, "start", "wg-multihome-watch.service")
		l.Static()
		lab.Until(t, "the mark leads to up2", func() bool { return l.Ask(lab.Query{Network: "udp", Far: lab.Far4, Mark: mark}) == two4 })
		wantCode(t, l.MH("sync"), 2)
		wantRules(t, l, "0x2007")
	default:
		t.Fatalf("%s has %q", bootsFile, boots)
	}
}

// durable writes a file so that it is there after a power failure, as editors do.
func durable(t *testing.T, path, text string) {
	t.Helper()
	fatal(t, os.WriteFile(path, []byte(text), 0o644))
	if out, err := exec.Command("sync", path, "/etc", "/var/lib").CombinedOutput(); err != nil {
		t.Fatalf("sync: %v %s", err, out)
	}
}

// tryAndReboot tries another mark, and reboots.
func tryAndReboot(t *testing.T, l *lab.Lab, tried, boot string, reboot func()) {
	t.Helper()
	systemctl(t, "stop", "wg-multihome-watch.service")
	durable(t, "/etc/wg-multihome.toml", "[uplink.up2]\nfwmark = "+tried+"\n")
	durable(t, bootsFile, boot)
	hereMH(t, l, "sync", "--try", "10m")
	reboot()
	select {}
}

// wantTryUndone starts the unit that boot starts first, while there are no uplinks, and
// wants to find what was in force before a try.
func wantTryUndone(t *testing.T, l *lab.Lab, tried string) {
	t.Helper()
	systemctl(t, "start", "wg-multihome.service")
	wantRules(t, l, tried)
	r := l.MH("confirm")
	wantCode(t, r, 1)
	wantPart(t, "confirm", r.Stderr, "the last one was undone")
	if t.Failed() {
		t.FailNow()
	}
}

// wantRules wants rules of what was in force before a try, and none of the try.
func wantRules(t *testing.T, l *lab.Lab, tried string) {
	t.Helper()
	for _, family := range []string{"-4", "-6"} {
		wantPart(t, "rules", l.Rules(family), "fwmark 0x2005 unreachable")
		wantNone(t, "rules", l.Rules(family), tried)
	}
	wantNone(t, "nftables", l.Run("nft", "list", "ruleset"), "0x0000"+tried[2:])
}
