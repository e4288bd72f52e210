//go:build guest

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// TestGuestLockOnUplinksOfAllKinds has those that not every kernel makes. Of
// them, sit is point-to-point as PPP is, and neither tun nor WireGuard.
func TestGuestLockOnUplinksOfAllKinds(t *testing.T) {
	lockOnUplinks(t, map[string]uplinkKind{
		"bond": {name: "wan", make: func(t *testing.T, l *lab.Lab) {
			l.Script("ip link add wan type bond mode active-backup miimon 100")
			l.Script("ip link set up2 down; ip link set up2 master wan; ip link set up2 up; ip link set wan up")
			// It has a carrier some time after its slave does.
			lab.Until(t, "the link-local network is there", func() bool { return strings.Contains(l.Run("ip", "-6", "route", "show", "dev", "wan"), "fe80::/64") })
		}},
		"vlan": {name: "wan.5", make: func(t *testing.T, l *lab.Lab) {
			l.Script("ip link add link up2 name wan.5 type vlan id 5; ip link set wan.5 up")
			// What the router filters by is the name of the inner device.
			l.ISP2.Script(`ip link set home down; ip link set home name trunk; ip link set trunk up
ip link add link trunk name home type vlan id 5; ip addr flush dev trunk; ip link set home up
ip addr add 198.51.100.1/24 dev home; ip addr add 2001:db8:2::1/64 dev home nodad`)
		}},
		"wireguard": {name: "wan", bare: true, make: func(t *testing.T, l *lab.Lab) {
			l.Script("ip link add wan type wireguard")
			underlay(l)
			l.ISP2.Run("ip", "link", "add", "inner", "type", "wireguard")
			keys := [2]string{newKey(t).String(), newKey(t).String()}
			l.Script(fmt.Sprintf("umask 077; echo %s >/run/own; wg set wan private-key /run/own peer $(echo %s | wg pubkey) endpoint 198.51.100.1:51820 allowed-ips 0.0.0.0/0,::/0", keys[0], keys[1]))
			l.ISP2.Script(fmt.Sprintf("f=$(mktemp); echo %s >$f; wg set inner listen-port 51820 private-key $f peer $(echo %s | wg pubkey) allowed-ips 10.200.0.1/32,fd00:200::1/128; rm $f", keys[1], keys[0]))
			inner(l)
		}},
		"sit": {name: "wan", bare: true, make: func(t *testing.T, l *lab.Lab) {
			underlay(l)
			l.Script("ip link add wan type sit local 198.51.100.10 remote 198.51.100.1 mode any")
			l.ISP2.Run("ip", "link", "add", "inner", "type", "sit", "local", "198.51.100.1", "remote", "198.51.100.10", "mode", "any")
			inner(l)
		}},
	})
}
