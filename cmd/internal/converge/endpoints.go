package converge

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"wg-multihome/fwmark"
	"wg-multihome/wg"
)

// ways returns the families in which an uplink has an address and a table.
func (v View) ways(uplink string) (ways [2]bool) {
	for _, u := range v.Uplinks {
		for _, f := range fwmark.Families {
			if u.Name == uplink && u.Routable(f) && u.Address[f].IsValid() {
				ways[f] = true
			}
		}
	}
	return ways
}

// filesDir is where wg-quick has its files.
const filesDir = "/etc/wireguard"

// file reads a device's configuration file. The usual one may be absent, one
// that is named may not.
func (v View) file(device string) (wg.File, error) {
	path := v.Config.WireGuard[device].Config
	named := path != ""
	if !named {
		path = filesDir + "/" + device + ".conf"
	}
	f, err := wg.ReadFile(path)
	switch {
	case err == nil:
		return f, nil
	case !named && errors.Is(err, fs.ErrNotExist):
		return wg.File{Path: path}, nil
	}
	return wg.File{Path: path}, fmt.Errorf("configuration of WireGuard device %q: %w", device, err)
}

// inside tells to which addresses packets with a mark leave by a WireGuard
// device, and by which.
func (h *Host) inside(v View, addrs []netip.Addr, mark uint32) map[netip.Addr]string {
	inside := map[netip.Addr]string{}
	for _, a := range addrs {
		device, err := h.kernel.Leaves(a, mark)
		if err != nil {
			h.Log.Debugf("%s", err) // refused: it leaves by none
			continue
		}
		for _, l := range v.Facts.Links {
			if l.Name == device && l.WireGuard {
				inside[a] = device
			}
		}
	}
	return inside
}
