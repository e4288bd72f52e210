package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"wg-multihome/cmd/internal/doctor"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/regular"
)

// readClients reads what address sources have written: which interfaces are theirs,
// and which version they are of.
func readClients(f *doctor.Facts) error {
	return errors.Join(readManaged(f), readDhcpcd(f), readVersions(f))
}

// readManaged reads what systemd-networkd and NetworkManager say of links: each has a
// file by its index, which tells whether they manage it.
func readManaged(f *doctor.Facts) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("read links: %w", err)
	}
	var errs []error
	for _, l := range links {
		for _, m := range []struct {
			folder, says string
			names        *[]string
		}{
			{"/run/systemd/netif/links", "\nADMIN_STATE=configur", &f.Networkd},
			{"/run/NetworkManager/devices", "\nmanaged=true", &f.Manager},
		} {
			text, err := regular.Read(filepath.Join(m.folder, strconv.Itoa(l.Attrs().Index)), maxOther)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			errs = append(errs, err)
			if strings.Contains("\n"+string(text), m.says) {
				*m.names = append(*m.names, l.Attrs().Name)
			}
		}
	}
	return errors.Join(errs...)
}

// readDhcpcd finds the uplinks whose leases the dhcpcd has that is for several
// interfaces: that one's process is not named after an interface.
func readDhcpcd(f *doctor.Facts) error {
	pid, err := regular.Read("/run/dhcpcd/pid", maxOther)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(strings.TrimSpace(string(pid)))
	if err != nil || !slices.ContainsFunc(f.Processes, func(p doctor.Process) bool { return p.PID == number && p.Name == string(doctor.Dhcpcd) }) {
		return nil // it has ended
	}
	var errs []error
	for _, u := range f.Decision.Uplinks {
		address := u.Address[fwmark.IPv4]
		if own, _ := filepath.Glob("/run/dhcpcd/" + u.Name + "*.pid"); len(own) > 0 || !address.IsValid() { // one of its own, eth0.pid or eth0-4.pid
			continue
		}
		// Of a wireless network its name stands behind that of the interface.
		leases, _ := filepath.Glob("/var/lib/dhcpcd/" + u.Name + "*.lease")
		for _, lease := range leases {
			packet, err := regular.Read(lease, maxOther)
			errs = append(errs, err)
			if leased(packet) == address {
				f.Dhcpcd = append(f.Dhcpcd, u.Name)
				break
			}
		}
	}
	return errors.Join(errs...)
}

// leased returns the address that a DHCP server's answer gives, its yiaddr (RFC 2131,
// 2): that is what dhcpcd keeps.
func leased(packet []byte) netip.Addr {
	const yiaddr = 16
	if len(packet) < yiaddr+4 {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(packet[yiaddr : yiaddr+4]))
}

// Lists of what is installed, and how large one may be, in bytes.
const (
	dpkgStatus   = "/var/lib/dpkg/status"
	apkInstalled = "/lib/apk/db/installed"
	maxList      = 64 << 20
)

// readVersions reads the versions of programs, where one is in use that matters by it.
func readVersions(f *doctor.Facts) error {
	if len(f.Manager)+len(f.Dhcpcd) == 0 {
		return nil
	}
	var lists [2][]byte
	for i, path := range []string{dpkgStatus, apkInstalled} {
		text, err := regular.Read(path, maxList)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		lists[i] = text
	}
	f.Versions = doctor.Versions(lists[0], lists[1])
	return nil
}
