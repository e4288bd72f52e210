package wg

import "github.com/vishvananda/netlink"

// InKernel reports whether this kernel has WireGuard: its generic netlink
// family, include/uapi/linux/wireguard.h. Asking loads the module, where there
// is one.
func InKernel() bool {
	_, err := netlink.GenlFamilyGet("wireguard")
	return err == nil
}
