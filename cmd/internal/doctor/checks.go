package doctor

// Checks are all checks. A code is never used again.
func Checks() []Check {
	return []Check{
		{"WGM001", "systemd-networkd deletes our rules", "At `networkctl reconfigure`, and when it starts, systemd-networkd deletes each rule that it has not made itself, unless ManageForeignRoutingPolicyRules=no. The second lock holds meanwhile, and watch puts the rules back.", []Source{Others}, networkd},
		{"WGM002", "NetworkManager tells nobody of new addresses", "NetworkManager before 1.42.6 (Debian 12 has 1.42.4) calls its dispatcher's scripts at the first lease of a connection, and at no later one: a new address or router is heard of by watch alone.", []Source{Running, Clients}, manager},
		{"WGM003", "the original shell script beside us", "The shell script sets rules and routes of its own at each lease, without guards and without an order that leaks nothing. `hook` is for hosts that keep it; else one of the two is to go.", []Source{Others}, script},
		{"WGM004", "strict rp_filter without src_valid_mark", "Answers to connections that are masqueraded come in by an uplink that main's default does not lead to. Strict rp_filter drops them unless src_valid_mark has it ask with the mark.", []Source{Sysctls}, rpFilter},
		{"WGM005", "no default in main, and services by packet", "A service whose packets are marked gets its mark after connect(2) has found a route. Without any in main it fails with \"network is unreachable\". Sockets that are marked from the start have no such limit.", nil, noDefault},
		{"WGM006", "router advertisements are ignored", "An interface that forwards IPv6 takes no router advertisements while accept_ra is 1: its default and its addresses expire. 2 takes them all the same.", []Source{Sysctls}, acceptRA},
		{"WGM007", "one dhcpcd for several uplinks", "dhcpcd before 10.3.1 leaves an interface that is renewing out when it makes routes anew: as soon as another one of its interfaces renews, main has neither the default nor the connected route of the first, until its own lease is answered.", []Source{Clients}, dhcpcd},
		{"WGM008", "clients that make one default alone", "Debian's script of udhcpc adds a default without a metric, and pppd leaves a default that is there alone: only one uplink has a default in main. What is pinned has its own table; what is not has no second way.", []Source{Running}, oneDefault},
		{"WGM009", "NetworkManager uses dhclient", "NetworkManager's own DHCP client binds its renewals to the device. With dhcp=dhclient they leave by main's default, with the other uplink's source, and the lease is lost.", []Source{Others, Clients}, managerDhclient},
		{"WGM010", "other software's marks in our bits", "A mark without a mask takes all 32 bits. Other software that sets marks, such as Docker, kube-proxy, Tailscale, firewalld or mwan3, overwrites ours, or is overwritten.", nil, foreignMarks},
		{"WGM011", "src_valid_mark of all interfaces", "net.ipv4.conf.all.src_valid_mark=1 has rp_filter ask with marks on each interface, also where nobody means it to. wg-quick sets it for a full tunnel, and leaves it behind.", []Source{Sysctls}, validMark},
		{"WGM012", "wg-quick down finds our table", "`wg-quick down` looks for the text \"lookup F\". A table of ours whose number begins with F's digits makes it fail, and the tunnel's rules stay.", nil, textMatch},
		{"WGM013", "SaveConfig of a pinned tunnel", "With SaveConfig = true wg-quick writes the addresses that names of endpoints have now over the names, so that they are never looked up again.", []Source{WireGuard}, saveConfig},
		{"WGM014", "two full tunnels with one mark", "wg-quick takes a full tunnel's mark for its table's number, and finds its rules by it. Two tunnels with one mark use one table, and the first that goes down takes the other's rules along.", nil, sameMark},
		{"WGM015", "the local table is asked behind ours", "A VRF moves the rule `lookup local` from the front to 32765. Ours have look-ups of it of their own then; other software may not.", nil, localBehind},
		{"WGM016", "two uplinks in one subnet", "Linux answers ARP for any of its addresses on any interface, so neighbours may send what is for one uplink to the other one. arp_ignore=1 and arp_announce=2 keep each address on its own.", []Source{Sysctls}, oneSubnet},
		{"WGM017", "nftables.service flushes sets of NFTSet=", "Each reload of Debian's nftables.service flushes all tables. watch, or the next run, makes ours again, but what systemd's NFTSet= has put there comes with the unit's next start alone.", []Source{Others}, flushed},
		{"WGM018", "firewalld's IPv6_rpfilter", "firewalld's IPv6_rpfilter=yes drops answers to IPv6 connections that were masqueraded.", []Source{Others, Running}, firewalld},
		{"WGM019", "OpenVPN's routes for all of IPv6", "`redirect-gateway ipv6` leads ::/3, 2000::/4, 3000::/4 and fc00::/7 into the tunnel. What is pinned passes over them; what is not leaves by the tunnel, and private IPv6 networks behind routers do, too.", nil, openVPN},
		{"WGM020", "BindNetworkInterface= of a pinned unit", "systemd 260 binds each socket of the unit to a device. A socket that is bound to another device than its uplink is outside of every rule, and the second lock drops what it sends.", []Source{Others}, bound},
		{"WGM021", "a pinned tunnel without a mark in its file", "Until PostUp, and after each `wg syncconf`, a device has the mark that its file says. Without `FwMark =` its packets leave by main meanwhile.", []Source{WireGuard}, unmarkedFile},
		{"WGM022", "a tunnel's MTU is too large for its uplink", "WireGuard adds 60 bytes to a packet over IPv4, 80 over IPv6. Where the sum is larger than the uplink's MTU each large packet is sent in fragments, which some ISPs drop.", []Source{Interface}, tooLarge},
		{"WGM023", "hooks are missing or changed", "Without its hook a client's leases are heard of by watch, or else at the next sync.", []Source{Installed}, hooks},
		{"WGM024", "units are not enabled", "A unit that is not enabled makes no guards at the next boot: what is pinned leaves by main until a hook runs.", []Source{Others, Installed}, disabled},
		{"WGM025", "watch runs an old binary", "A program that was replaced runs on as it was until it is started again: after an upgrade watch decides by the old one.", []Source{Running}, oldWatch},
		{"WGM026", "defaults of several uplinks with one metric", "The kernel gives each default of a router advertisement the metric 1024, and networkd gives that to those of DHCP. Where two are alike the first one counts for all that is not pinned, or both in turn.", nil, ties},
	}
}
