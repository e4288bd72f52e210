package policy

// The protocol numbers of rules and routes that decisions depend on (FRA_PROTOCOL and
// rtm_protocol; RTPROT_* of linux/rtnetlink.h).
const (
	Protocol       = 77 // ours
	ProtocolUnspec = 0  // what iproute2 6.1 gives rules; on deletion it stands for all
	ProtocolKernel = 2
	ProtocolBoot   = 3 // what iproute2 gives routes
	ProtocolStatic = 4
	ProtocolRA     = 9
	ProtocolDHCP   = 16
)

// protocols are the numbers' names, as in /etc/iproute2/rt_protos.
var protocols = map[uint8]string{
	ProtocolUnspec: "unspec", 1: "redirect", ProtocolKernel: "kernel", ProtocolBoot: "boot", ProtocolStatic: "static",
	8: "gated", ProtocolRA: "ra", 10: "mrt", 11: "zebra", 12: "bird", 13: "dnrouted", 14: "xorp", 15: "ntk",
	ProtocolDHCP: "dhcp", 17: "mrouted", 18: "keepalived", 42: "babel", 84: "ovn", 99: "openr",
	186: "bgp", 187: "isis", 188: "ospf", 189: "rip", 192: "eigrp", 193: "frr",
}

// ProtocolName returns a number's name, "" where it has none.
func ProtocolName(number uint8) string { return protocols[number] }
