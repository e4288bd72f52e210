package kernel

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Leaves returns the device that the kernel would send an unbound packet with a
// mark by. Where it would refuse it, that is an error.
func (c *Client) Leaves(dst netip.Addr, mark uint32) (string, error) {
	routes, err := c.handle.RouteGetWithOptions(dst.AsSlice(), &netlink.RouteGetOptions{Mark: mark})
	if err != nil {
		return "", fmt.Errorf("look up the route to %s with mark %#x: %w", dst, mark, err)
	}
	for name, index := range c.links {
		if len(routes) > 0 && int(index) == routes[0].LinkIndex {
			return name, nil
		}
	}
	return "", fmt.Errorf("look up the route to %s with mark %#x: its device is not known", dst, mark)
}
