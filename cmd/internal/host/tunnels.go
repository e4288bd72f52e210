package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/wg"
)

// filesDir is where wg-quick has its files.
const filesDir = "/etc/wireguard"

// ReadFile reads a device's configuration file; with an error comes what can be
// read all the same. The usual one may be absent, one that is named in the
// configuration may not.
func (h *Host) ReadFile(o decide.Observation, device string) (wg.File, error) {
	path := o.Config.WireGuard[device].Config
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
	return f, fmt.Errorf("configuration of WireGuard device %q: %w", device, err)
}

// ReadFiles reads the files of devices, as far as they can be read.
func (h *Host) ReadFiles(o decide.Observation, devices []string) map[string]wg.File {
	files := map[string]wg.File{}
	for _, device := range devices {
		files[device], _ = h.ReadFile(o, device) // `status` and a refresh say what is wrong
	}
	return files
}

// IntoTunnels tells which of the addresses packets with a mark reach by a
// WireGuard device, and by which. What the kernel refuses leaves by none.
func (h *Host) IntoTunnels(o decide.Observation, addrs []netip.Addr, mark uint32) map[netip.Addr]string {
	into := map[netip.Addr]string{}
	for _, a := range addrs {
		device, err := h.Kernel.Leaves(a, mark)
		if err != nil {
			h.Log.Debugf("%s", err)
			continue
		}
		for _, l := range o.Facts.Links {
			if l.Name == device && l.WireGuard {
				into[a] = device
			}
		}
	}
	return into
}

// Inspect reads devices with their peers, those that are there.
func (h *Host) Inspect(ctx context.Context, devices []string) ([]wg.Detail, []error) {
	if len(devices) == 0 {
		return nil, nil
	}
	client, err := h.devices()
	if err != nil {
		return nil, []error{err}
	}
	return client.Inspect(ctx, devices)
}

// ApplyAll makes changes of one device, one after the other.
func (h *Host) ApplyAll(ctx context.Context, device string, changes []wg.Change) []error {
	client, err := h.devices()
	if err != nil {
		return []error{err}
	}
	return client.ApplyAll(ctx, device, changes)
}
