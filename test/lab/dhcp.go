package lab

import (
	"fmt"
	"path/filepath"
	"strings"
)

// HookFile is what an administrator puts into dhclient-exit-hooks.d: it is
// sourced, sets no variable, never exits, and always returns 0.
const HookFile = "/etc/dhcp/dhclient-exit-hooks.d/zz-wg-multihome"

// Hook installs the hook file, with the program's absolute path, and a hook of
// its own for run-parts that writes down what it was told.
func (l *Lab) Hook() {
	l.t.Helper()
	l.Write(HookFile, l.Binary+" exit-hook >>/run/hook.log 2>&1 || :\n", 0o644)
	l.Write("/etc/dhcp/multihomed.d/note", `#!/bin/sh
echo "$MULTIHOMED_EVENT $IFACE $MULTIHOMED_FAMILY ${MULTIHOMED_OLD_ADDRESS:--} $MULTIHOMED_NEW_ADDRESS ${MULTIHOMED_GATEWAY:--} ${FWMARK:--} ${TABLE_ID:--}" >>/run/told.log
`, 0o755)
}

// ToldLog returns what hooks were told so far.
func (l *Lab) ToldLog() string { return l.Read("/run/told.log") }

// Serve starts a DHCP server at an ISP, with addresses from first to last;
// further options are dnsmasq's. It serves until stop is called.
func (l *Lab) Serve(isp *Namespace, first, last string, options ...string) (stop func()) {
	l.t.Helper()
	args := []string{
		"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=home", "--bind-interfaces",
		"--except-interface=lo", "--user=root", "--pid-file=", "--dhcp-authoritative", "--no-ping", "--log-dhcp", "--log-facility=-",
		"--dhcp-leasefile=" + filepath.Join(l.t.TempDir(), "leases"),
		fmt.Sprintf("--dhcp-range=%s,%s,255.255.255.0,2m", first, last),
	}
	stop = isp.Start(nil, append(args, options...)...)
	Until(l.t, "the DHCP server listens", func() bool { return strings.Contains(isp.Run("ss", "-Hlnu"), ":67 ") })
	return stop
}

// Dhclient starts a real dhclient on an uplink, which stays in the background
// until the test ends. It returns once the client has a lease, or given up.
func (l *Lab) Dhclient(uplink string) {
	l.t.Helper()
	l.dhclient("-1", uplink)
	l.t.Cleanup(func() {
		l.Try(nil, "sh", "-c", "read pid </run/dhclient."+uplink+".pid && kill $pid")
	})
}

// Release has the client give its lease back, Stop has it end and keep it.
func (l *Lab) Release(uplink string) { l.t.Helper(); l.dhclient("-r", uplink) }

// Stop ends the client, which keeps its lease.
func (l *Lab) Stop(uplink string) { l.t.Helper(); l.dhclient("-x", uplink) }

func (l *Lab) dhclient(mode, uplink string) {
	l.t.Helper()
	r := l.Try(nil, "dhclient", mode, "-pf", "/run/dhclient."+uplink+".pid", "-lf", "/var/lib/dhcp/"+uplink+".leases", uplink)
	if r.Code != 0 {
		l.t.Fatalf("dhclient %s %s: exit status %d\n%s%s\n%s", mode, uplink, r.Code, r.Stdout, r.Stderr, l.Read("/run/hook.log"))
	}
}

// DhclientScript runs Debian's dhclient-script with an event, hooks and all.
func (l *Lab) DhclientScript(variables ...string) {
	l.t.Helper()
	if r := l.Try(variables, "/sbin/dhclient-script"); r.Code > 2 {
		l.t.Fatalf("dhclient-script: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// RenewAfter has clients that start from now on renew after so many seconds.
func (l *Lab) RenewAfter(seconds int) {
	l.t.Helper()
	const conf = "/etc/dhcp/dhclient.conf"
	l.Write(conf, l.Read(conf)+fmt.Sprintf("supersede dhcp-renewal-time %d; supersede dhcp-rebinding-time 100;\n", seconds), 0o644)
}
