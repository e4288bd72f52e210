// Package lab builds a host with two uplinks out of network namespaces:
//
//	          up1 --- home [isp1] far --- f1
//	host                                 far   203.0.113.1  2001:db8:f::1
//	          up2 --- home [isp2] far --- f2
//
// isp1 has 192.0.2.0/24 and 2001:db8:1::/64 on its side of the host, isp2 has
// 198.51.100.0/24 and 2001:db8:2::/64; .1 and ::1 are the routers. A router
// drops, and counts, what comes from the host with a source that is not of its
// own networks, as an ISP does. Far answers each datagram and each connection
// to port 7 with the address that it saw.
//
// The host has a mount namespace too: /run, /etc and /var/lib are its own. /run,
// /etc/network, /etc/dhcp, /etc/wireguard, /var/lib/dhcp, /etc/hosts and
// /etc/resolv.conf are empty at first. /usr cannot be written. Nothing outside is
// changed.
package lab
