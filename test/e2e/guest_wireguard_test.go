//go:build guest

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// kernelPeers makes wg0 on the host and at far, devices of the kernel, that are
// each other's peer. It returns the endpoint that far sees, and the host's mark.
func kernelPeers(t *testing.T, l *lab.Lab) (seen, fwmark func() string) {
	t.Helper()
	host, far := newKey(t), newKey(t)
	device := func(n *lab.Namespace, key, rest string) {
		t.Helper()
		n.Script(fmt.Sprintf("ip link add wg0 type wireguard; f=$(mktemp); echo %s >$f; wg set wg0 private-key $f %s; rm $f", key, rest))
	}
	device(l.Far, far.String(), fmt.Sprintf("listen-port 51820 peer %s allowed-ips 10.200.0.1/32", host.PublicKey()))
	device(l.Namespace, host.String(), fmt.Sprintf("peer %s endpoint %s:51820 persistent-keepalive 1 allowed-ips 10.200.0.2/32", far.PublicKey(), lab.Far4))
	l.Far.Script("ip addr add 10.200.0.2/24 dev wg0; ip link set wg0 up")
	l.Script("ip addr add 10.200.0.1/24 dev wg0; ip link set wg0 up")
	return func() string {
			fields := strings.Fields(l.Far.Run("wg", "show", "wg0", "endpoints"))
			return fields[len(fields)-1]
		}, func() string {
			return strings.TrimSpace(l.Run("wg", "show", "wg0", "fwmark"))
		}
}

// TestGuestTunnelLeavesByItsUplink moves a pinned tunnel of the kernel between
// the uplinks, and has `down` release it.
func TestGuestTunnelLeavesByItsUplink(t *testing.T) {
	l := newLab(t)
	l.Static()
	seen, fwmark := kernelPeers(t, l)
	from := func(addr string) {
		t.Helper()
		lab.Until(t, "far sees "+addr, func() bool { return strings.HasPrefix(seen(), addr+":") })
	}
	from(one4) // main's
	if n := number(t, handshake, l.Far.Run("wg", "show", "wg0", "latest-handshakes")); n == 0 {
		t.Error("there was no handshake")
	}
	configure := func(up1, up2 string) {
		t.Helper()
		l.Interfaces(fmt.Sprintf("iface up1 inet manual\n\tmultihomed-fwmark 0x1001\n\t%s\niface up2 inet manual\n\tmultihomed-fwmark 0x2005\n\t%s\n", up1, up2))
		l.MustMH("sync")
		noDrift(t, l)
	}
	const pin = "multihomed-wireguard wg0"
	configure("", pin)
	wantEqual(t, "mark", fwmark(), "0x2005")
	from(two4)
	configure(pin, "")
	wantEqual(t, "mark", fwmark(), "0x1001")
	from(one4)
	configure("", pin)
	from(two4)
	l.MustMH("down")
	wantEqual(t, "mark after down", fwmark(), "off")
	from(one4)
	noSpoof(t, l)
}

// TestGuestPinnedTunnelIsCutOff: without its uplink nothing of the tunnel's
// leaves, and it is back with it.
func TestGuestPinnedTunnelIsCutOff(t *testing.T) {
	l := newLab(t)
	l.Static()
	seen, _ := kernelPeers(t, l)
	l.Interfaces("iface up2 inet manual\n\tmultihomed-fwmark 0x2005\n\tmultihomed-wireguard wg0\n")
	l.MustMH("sync")
	lab.Until(t, "far sees the second uplink", func() bool { return strings.HasPrefix(seen(), two4+":") })
	wrong := counting(t, l.ISP1, "prerouting priority -300", "iifname home udp dport 51820")
	wrong()
	l.Echo(l.Far, "", "10.200.0.2")
	answered := func() bool { return l.Ask(lab.Query{Network: "udp", Far: "10.200.0.2"}) == "10.200.0.1" }
	if !answered() {
		t.Error("far does not answer in the tunnel")
	}
	l.Run("ip", "link", "set", "up2", "down")
	l.MustMH("sync")
	if answered() {
		t.Error("far answers without the uplink")
	}
	if n := wrong(); n != 0 {
		t.Errorf("%d packets of the tunnel left by the other uplink", n)
	}
	l.Script("ip link set up2 up; ip route replace default via 198.51.100.1 dev up2 metric 2")
	l.MustMH("sync")
	lab.Until(t, "far answers again", answered)
	wantPart(t, "endpoint", seen(), two4+":")
	if n := wrong(); n != 0 {
		t.Errorf("%d packets of the tunnel left by the other uplink", n)
	}
}
