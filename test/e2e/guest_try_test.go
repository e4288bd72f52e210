//go:build guest

package e2e

import (
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// everyService lists the services that run, but for the one that runs the tests.
const everyService = `systemctl list-units --plain --no-legend --type=service --state=running | cut -d' ' -f1 | grep -vxF "$(sed 's|.*/||' /proc/self/cgroup)"`

// TestSystemdTry tries another mark where systemd runs: a timer of its own undoes it,
// though systemd itself and all that runs under it is started anew meanwhile. A try
// that is confirmed leaves no timer.
func TestSystemdTry(t *testing.T) {
	l := hereStatic(t, "")
	timers := func() string {
		return l.Script("systemctl list-units --plain --no-legend 'wg-multihome-undo-*.timer'")
	}
	before := l.State()
	tries := func(mark, limit string) {
		t.Helper()
		l.Write("/etc/wg-multihome.toml", strings.Replace(pinnedHere, "0x2005", mark, 1), 0o644)
		hereMH(t, l, "sync", "--try", limit)
		wantPart(t, "rules", l.Rules("-4"), mark)
		wantPart(t, "timers of systemd", timers(), "wg-multihome-undo-"+tried(l, "id"))
	}
	tries("0x2006", (lab.Patience / 2).String())
	systemctl(t, "daemon-reexec")
	running := l.Script(everyService)
	wantPart(t, "what runs", running, "systemd-journald.service")
	systemctl(t, append([]string{"restart", "dbus.service"}, strings.Fields(running)...)...)
	lab.Until(t, "all is as before", func() bool { return l.State() == before })
	wantCode(t, l.MH("sync"), 2)

	tries("0x2007", "5m")
	hereMH(t, l, "confirm")
	wantEqual(t, "timers after confirm", timers(), "")
	hereMH(t, l, "sync")
	wantPart(t, "rules", l.Rules("-4"), "0x2007")
}
