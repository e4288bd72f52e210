package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// TestWhoAddsRoutesCallsUs as the topics have it: pinned packets take the new routes
// without anybody's help.
func TestWhoAddsRoutesCallsUs(t *testing.T) {
	for name, add := range map[string]func(t *testing.T, l *lab.Lab){
		"OpenVPN": func(t *testing.T, l *lab.Lab) {
			if _, err := exec.LookPath("openvpn"); err != nil {
				t.Skipf("no OpenVPN here: %v", err)
			}
			l.Run("openvpn", "--genkey", "secret", "/run/vpn.key")
			l.Write("/run/vpn.conf", "dev tun9\nremote "+lab.Far4+"\nnobind\nsecret /run/vpn.key\ncipher AES-256-CBC\nifconfig 10.8.0.1 10.8.0.2\nroute 10.77.0.0 255.255.0.0\n"+
				docBlock(t, l, "script-security"), 0o600)
			l.Start(nil, "openvpn", "--config", "/run/vpn.conf")
		},
		"NetworkManager": func(t *testing.T, l *lab.Lab) {
			const script = "/run/root/etc/NetworkManager/dispatcher.d/90-wg-multihome"
			l.Script("mkdir -p /run/root/usr/sbin; : >/run/root/usr/sbin/NetworkManager; ip tuntap add dev tun9 mode tun; ip link set tun9 up; ip addr add 10.8.0.1/24 dev tun9")
			l.MustMH("install", "--root", "/run/root")
			l.Run(script, "tun9", "pre-up")
			l.Run("ip", "route", "add", "10.77.0.0/16", "dev", "tun9")
			wantCode(t, l.MH("plan", "--exit-code"), 3)
			l.Run(script, "tun9", "vpn-up")
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Interfaces(pinned)
			l.MustMH("sync")
			add(t, l)
			lab.Until(t, "the lock knows the new route", func() bool {
				return strings.Contains(l.Try(nil, "nft", "list", "set", "inet", "wg_multihome", "via4_tun9").Stdout, "10.77.0.0/16")
			})
			noDrift(t, l)
			passed(t, l, "tun9")
			l.Send(lab.Sender{To: "10.77.0.1", Mark: mark}, 5)
			l.Send(lab.Sender{To: "203.0.113.9", Mark: mark, Device: "tun9"}, 5)
			if n, lost := passed(t, l, "tun9"), dropped(t, l, "lock_0x2005"); n != 5 || lost != 5 {
				t.Errorf("%d datagrams passed and %d were dropped, want 5 and 5", n, lost)
			}
		})
	}
}
