package main

import (
	_ "embed"
	"os"
	"path/filepath"
)

// Where the host under test has its things, in this program's own namespaces.
const (
	interfacesFile = "/etc/network/interfaces"
	shellHook      = "/etc/dhcp/dhclient-exit-hooks.d/multihomed"
	hooks          = "/etc/dhcp/multihomed.d"
)

//go:embed hook.sh
var hookScript string

// twoUplinks is a host of whose uplinks the second has a mark.
const twoUplinks = `
auto up1
iface up1 inet dhcp
	metric 1024

auto up2
iface up2 inet dhcp
	metric 2048
	multihomed-fwmark 0x2005
`

// separate gives this process an /etc and a /run of its own.
func separate() error {
	// Without it each command would look for its libraries by itself.
	cache, _ := os.ReadFile("/etc/ld.so.cache")
	if err := script("mount -t tmpfs none /etc; mount -t tmpfs none /run; mkdir -p /run/network " + hooks); err != nil {
		return err
	}
	if err := write("/run/network/ifstate", "lo=lo\nup1=up1\nup2=up2\n"); err != nil { // as ifup leaves it
		return err
	}
	return write("/etc/ld.so.cache", string(cache))
}

func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// host is what commands are measured on.
type host struct{ binary string }

// build makes the host anew, with what both uplinks have of DHCP. What an
// earlier case had goes with its links.
func (h host) build() error {
	if err := write(interfacesFile, twoUplinks); err != nil {
		return err
	}
	if err := script("ip link del up1 || :; ip link del up2 || :"); err != nil {
		return err
	}
	if err := h.clean(); err != nil {
		return err
	}
	return script(`
ip link set lo up
for n in 1 2; do
	ip link add up$n type veth peer name isp$n
	ip link set up$n up
	ip link set isp$n up
done
ip addr add 192.0.2.10/24 dev up1
ip addr add 198.51.100.10/24 dev up2
ip route add default via 192.0.2.1 dev up1 metric 1024
ip route add default via 198.51.100.1 dev up2 metric 2048`)
}

// clean takes all rules away but those that a host begins with.
func (h host) clean() error {
	return script(h.binary + ` down
ip rule flush
ip rule add pref 32766 lookup main
ip rule add pref 32767 lookup default
rm -rf /run/wg-multihome`)
}
