package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// Leaves returns the device that the kernel would send an unbound packet with a
// mark by. Where it would refuse it, that is an error.
func (c *Client) Leaves(dst netip.Addr, mark uint32) (string, error) {
	device, err := c.leaves(dst, netip.Addr{}, mark)
	switch {
	case err != nil:
		return "", fmt.Errorf("look up the route to %s with mark %#x: %w", dst, mark, err)
	case device == "":
		return "", fmt.Errorf("look up the route to %s with mark %#x: its device is not known", dst, mark)
	}
	return device, nil
}

// leaves does so for a packet from src, where that is valid.
func (c *Client) leaves(dst, src netip.Addr, mark uint32) (device string, err error) {
	var from byte
	if src.IsValid() {
		from = byte(src.BitLen())
	}
	b := []byte{familyNumber(fwmark.FamilyOf(dst)), byte(dst.BitLen()), from, 0, 0, 0, 0, 0}
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = appendAddress(b, unix.RTA_DST, dst)
	if src.IsValid() {
		b = appendAddress(b, unix.RTA_SRC, src)
	}
	if mark != 0 {
		b = appendNumber(b, unix.RTA_MARK, mark)
	}
	d := routeDecoder{device: c.device}
	_, err = c.socket.ask(unix.RTM_GETROUTE, 0, b, unix.RTM_NEWROUTE, func(m []byte) error {
		return d.decode(m, func(r *policy.Route) { device = r.Device })
	})
	return device, err
}
