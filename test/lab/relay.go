package lab

import (
	"fmt"
	"path/filepath"
	"strings"
)

// ServeBehind makes a namespace behind a router with a DHCP server for several
// networks, which relays are to ask. Each range is dnsmasq's. It returns the
// server's address; number makes it another one for each.
func (l *Lab) ServeBehind(router *Namespace, number int, ranges ...string) (address string) {
	l.t.Helper()
	server := newNamespace(l.t, fmt.Sprintf("dhcp%d", number), false, basics)
	name := fmt.Sprintf("dhcp%d", number)
	router.Link(name, server, "wan")
	router.Script(fmt.Sprintf("sysctl -qw net.ipv4.ip_forward=1; ip addr add 10.9.%d.1/24 dev %[2]s; ip link set %[2]s up", number, name))
	address = fmt.Sprintf("10.9.%d.2", number)
	server.Script(fmt.Sprintf("ip addr add %s/24 dev wan; ip link set wan up; ip route add default via 10.9.%d.1", address, number))
	args := []string{"--dhcp-authoritative", "--no-ping", "--log-dhcp", "--dhcp-leasefile=" + filepath.Join(l.t.TempDir(), "leases")}
	for _, r := range ranges {
		args = append(args, "--dhcp-range="+r)
	}
	l.dnsmasq(server, args...)
	return address
}

// Relay has a router relay DHCP to a server; own is its address on the side of
// the host.
func (l *Lab) Relay(router *Namespace, own, server string) {
	l.t.Helper()
	l.dnsmasq(router, fmt.Sprintf("--dhcp-relay=%s,%s", own, server))
}

func (l *Lab) dnsmasq(n *Namespace, args ...string) {
	l.t.Helper()
	n.Start(nil, append([]string{"dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file=", "--log-facility=-"}, args...)...)
	Until(l.t, "dnsmasq listens", func() bool { return strings.Contains(n.Run("ss", "-Hlnu"), ":67 ") })
}
