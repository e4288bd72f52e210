//go:build guest

package e2e

import (
	"testing"

	"wg-multihome/test/lab"
)

// TestSystemdPPP: a real pppd leaves the default alone that main has already, which
// doctor says until there is one. Its uplink is an uplink all the same: what is pinned to
// it leaves by it.
func TestSystemdPPP(t *testing.T) {
	l := newLab(t)
	l.Static()
	const own, far = "100.64.7.2", "100.64.7.1"
	l.Write(lab.DefaultTOML, "[uplink.ppp0]\nfwmark = 0x2005\n", 0o644)
	l.Start(nil, "pppd", "nodetach", "noauth", "local", "noipdefault", "ipcp-accept-local", "ipcp-accept-remote", "defaultroute", "unit", "0",
		"pty", "nsenter --net="+l.ISP2.Network()+" pppd notty noauth local "+far+":"+own)
	lab.Until(t, "the link has its address", lab.Contains(func() string { return l.Run("ip", "-4", "addr") }, own+" peer "+far))
	l.MustMH("sync")
	wantPart(t, "the mark's route", l.Run("ip", "route", "get", lab.Far4, "mark", "0x2005"), "dev ppp0")
	finds := func(want string) {
		t.Helper()
		if codes := found(t, l); codes["WGM008"] != want {
			t.Errorf("doctor: %v, want WGM008 %q\n%s", codes, want, l.Run("ip", "route"))
		}
	}
	finds("note")
	l.Script("ip route add default dev ppp0 metric 2000")
	finds("")
}
