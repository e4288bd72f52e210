package e2e

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// readmeText returns what is to be copied from README: the indented lines from
// one that begins so to the next line that is not indented.
func readmeText(t *testing.T, begin string) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if errors.Is(err, fs.ErrNotExist) { // the virtual machine's tests run at the top
		text, err = os.ReadFile("README.md")
	}
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^    ` + regexp.QuoteMeta(begin) + `.*\n(?:    .*\n)*`).FindString(string(text))
	if m == "" {
		t.Fatalf("README has no block that begins with %q", begin)
	}
	return strings.ReplaceAll("\n"+m, "\n    ", "\n")
}

// readmeBlock is readmeText for the program under test.
func readmeBlock(t *testing.T, l *lab.Lab, begin string) string {
	t.Helper()
	return strings.ReplaceAll(readmeText(t, begin), "/usr/local/sbin/wg-multihome", l.Binary)
}

// TestWhoAddsRoutesCallsUs as README has it: pinned packets take the new routes
// without anybody's help.
func TestWhoAddsRoutesCallsUs(t *testing.T) {
	for name, add := range map[string]func(t *testing.T, l *lab.Lab){
		"OpenVPN": func(t *testing.T, l *lab.Lab) {
			if _, err := exec.LookPath("openvpn"); err != nil {
				t.Skipf("no OpenVPN here: %v", err)
			}
			l.Run("openvpn", "--genkey", "secret", "/run/vpn.key")
			l.Write("/run/vpn.conf", "dev tun9\nremote "+lab.Far4+"\nnobind\nsecret /run/vpn.key\ncipher AES-256-CBC\nifconfig 10.8.0.1 10.8.0.2\nroute 10.77.0.0 255.255.0.0\n"+
				readmeBlock(t, l, "script-security"), 0o600)
			l.Start(nil, "openvpn", "--config", "/run/vpn.conf")
		},
		"NetworkManager": func(t *testing.T, l *lab.Lab) {
			const folder, script = "/run/dispatcher.d", "/run/dispatcher.d/90-wg-multihome"
			block := strings.ReplaceAll(readmeBlock(t, l, "cat >/etc/NetworkManager"), "/etc/NetworkManager/dispatcher.d", folder)
			l.Script("mkdir " + folder + "\n" + block + "\nip tuntap add dev tun9 mode tun; ip link set tun9 up; ip addr add 10.8.0.1/24 dev tun9")
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
